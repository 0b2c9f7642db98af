"""Writes points into the blocks of minutes. The fold alone writes them, one at a time."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import blocks, merging
from domain.telemetry.blocks import SHARD, Cells
from domain.telemetry.columns import Columns
from domain.telemetry.merging import Rows
from domain.telemetry.points import Mode

DAY_S = 86_400
_EXISTING = """
SELECT w.ordinality - 1 AS block, m.shard, m.cells
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::int[]) WITH ORDINALITY
  AS w (account_id, shard, at, source)
JOIN minutes m USING (account_id, shard, at, source)
"""
_WRITE = """
INSERT INTO minutes (account_id, shard, at, source, cells)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::int[], $5::bytea[])
ON CONFLICT (account_id, shard, at, source) DO UPDATE SET cells = excluded.cells
"""


class Keys(NamedTuple):
    """Which blocks: element i of each is of block i. Rising by account, shard, minute and source."""

    account: list[UUID]
    shard: list[int]
    at: list[datetime]
    source: list[int]


async def write(connection: asyncpg.Connection, points: Columns) -> None:
    """Merge the points (one at least) into what their minutes hold; their days are not packed."""
    await make_partitions(connection, points.at)
    block, keys = _blocks(points)
    rows = Rows(block, points.number, points.value, points.count, points.mode != Mode.ADD, points.sketches)
    existing = merging.replacing(await _existing(connection, keys))
    cells = merging.merge(merging.concat(existing, rows))
    await connection.execute(_WRITE, *keys, blocks.encode(cells))


async def make_partitions(connection: asyncpg.Connection, at: NDArray[np.int64]) -> None:
    days = [time(day * DAY_S).date() for day in np.unique(at // DAY_S).tolist()]
    await connection.execute("SELECT make_minutes_partitions($1)", days)


def time(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)


def rank(points: Columns) -> NDArray[np.int64]:
    """The place of each point's block among all of their blocks, by account, shard, minute and source."""
    return _blocks(points)[0]


def _blocks(points: Columns) -> tuple[NDArray[np.int64], Keys]:
    """The block of each point, and the keys of all blocks."""
    rank = np.argsort(np.argsort([key.bytes for key in points.accounts]))
    columns = (points.source, points.at, points.number // SHARD, rank[points.account])
    order = np.lexsort(columns)
    is_first = np.zeros(len(points), bool)
    is_first[0] = True
    for column in columns:
        is_first[1:] |= np.diff(column[order]) != 0
    block = np.empty(len(points), np.int64)
    block[order] = np.cumsum(is_first) - 1
    chosen = order[is_first]
    return block, Keys(
        [points.accounts[index] for index in points.account[chosen].tolist()],
        (points.number[chosen] // SHARD).tolist(),
        [time(second) for second in points.at[chosen].tolist()],
        [points.sources[index] for index in points.source[chosen].tolist()],
    )


async def _existing(connection: asyncpg.Connection, keys: Keys) -> Cells:
    """What the blocks hold already; the cells bear the number of their block among `keys`."""
    rows: Sequence[asyncpg.Record] = await connection.fetch(_EXISTING, *keys)
    found = blocks.decode([row["cells"] for row in rows], [row["shard"] for row in rows])
    number = np.array([row["block"] for row in rows], np.int64)
    return found.placed(number[found.block])

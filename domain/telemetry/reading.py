"""Reads what measured series came to in each interval of a grid, from rollups, blocks and chunks.

Dirty windows are asked for first, and then read by their minutes: what is rolled up meanwhile is read
twice as well, never doubled and never missed. What is held at once does not grow with the grid's windows.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import raw
from domain.telemetry import pieces, sketches, steps
from domain.telemetry.fetching import Found, Member, Part, Source
from domain.telemetry.minutes import time
from domain.telemetry.pieces import Dirty, Piece
from domain.telemetry.sketches import Sketches

CELLS, SKETCHES = 5_000_000, 100_000
"""Cells that are held at once, without sketches and with them."""
_BLOCKS_A_CHUNK = 2
"""So many blocks take as long to read as one chunk."""
_LONGEST = timedelta(hours=26)

_DIRTY = """
SELECT account_id, step, extract(epoch FROM at)::bigint AS at FROM dirty_windows
WHERE account_id = ANY($1) AND step <= $2 AND at > $3 AND at < $4 ORDER BY at
"""
_PACKED = """
SELECT account_id, extract(epoch FROM day)::bigint AS at FROM shard_days
WHERE account_id = ANY($1) AND shard = ANY($2) AND day >= $3 AND day < $4
GROUP BY account_id, day HAVING bool_and(is_packed) ORDER BY day
"""
_OTHER_DAYS = """
SELECT DISTINCT account_id, extract(epoch FROM at)::bigint AS at FROM rollups
WHERE account_id = ANY($1) AND step = $2 AND shard = ANY($3) AND at > $4 AND at < $5
  AND NOT extract(epoch FROM at)::bigint = ANY($6)
"""


@dataclass(frozen=True, slots=True, eq=False)
class Grid:
    """What M series came to in T intervals: arrays M × T.

    `value` is the sum; `count` the observations, or else the minutes with data: 0 where there is none.
    `sketches`, where asked for, has M · T rows, the T of the first series first.
    """

    value: NDArray[np.float64]
    count: NDArray[np.float64]
    sketches: Sketches | None


async def read(
    session: AsyncSession,
    members: Sequence[Member],
    edges: NDArray[np.int64],
    *,
    step: int,
    midnights: NDArray[np.int64] | None = None,
    with_sketches: bool = False,
) -> Grid:
    """The grid of `members` over the intervals between `edges` (T + 1, epoch seconds, rising whole minutes).

    `step` is the coarsest rollup that may be read. Of days, `midnights` (or else the edges) are the local
    ones in the members' time zone from the first edge to the last, and the edges are some of them.
    """
    connection = await raw(session)
    source = Source(connection, members, with_sketches=with_sketches)
    if step == steps.DAY:
        days = edges if midnights is None else midnights
        parts = await _days(connection, source, days.tolist())
    else:
        parts = await _parts(connection, source, edges, step)
    sums = _Sums(len(members), edges, with_sketches=with_sketches)
    for batch in _batches(parts, source.sizes, SKETCHES if with_sketches else CELLS):
        async for found in source.cells(batch):
            sums.add(found)
        sums.settle()
    return sums.grid()


async def _parts(
    connection: asyncpg.Connection, source: Source, edges: NDArray[np.int64], step: int
) -> list[Part]:
    begin, end = int(edges[0]), int(edges[-1])
    if step == steps.MINUTE:
        return [(account, Piece(step, begin, end)) for account in source.accounts]
    dirty = await _dirty(connection, source.accounts, (begin, end), step)
    packed = await _packed(connection, source, (begin, end), step)
    loose = edges[1:-1][edges[1:-1] % (step * 60) != 0].tolist()
    stretches = list(pairwise([begin, *loose, end]))
    return [
        (account, piece)
        for account in source.accounts
        for stretch in stretches
        for whole in pieces.cover(*stretch, step, dirty[account])
        for piece in pieces.of_chunks(whole, packed.get(account, ()))
    ]


async def _packed(
    connection: asyncpg.Connection, source: Source, span: tuple[int, int], step: int
) -> Mapping[UUID, Sequence[int]]:
    """The packed days of accounts of which few series are wanted: a chunk is of one, a block of hundreds."""
    blocks = len(source.shards) * steps.DAY // step
    few = [account for account, size in source.sizes.items() if size * _BLOCKS_A_CHUNK <= blocks]
    days = time(span[0]).date(), time(span[1]).date()
    packed: dict[UUID, list[int]] = {account: [] for account in few}
    if few and days[0] < days[1]:
        for row in await connection.fetch(_PACKED, few, source.shards, *days):
            packed[row["account_id"]].append(row["at"])
    return packed


async def _days(connection: asyncpg.Connection, source: Source, midnights: Sequence[int]) -> list[Part]:
    begin, end = midnights[0], midnights[-1]
    dirty = await _dirty(connection, source.accounts, (begin, end), steps.DAY)
    others: dict[UUID, list[int]] = {account: [] for account in source.accounts}
    around = time(begin) - _LONGEST, time(end) + _LONGEST
    rows = await connection.fetch(_OTHER_DAYS, source.accounts, steps.DAY, source.shards, *around, midnights)
    for row in rows:
        others[row["account_id"]].append(row["at"])
    return [
        (account, piece)
        for account in source.accounts
        for piece in pieces.cover_days(midnights, dirty[account], others[account])
    ]


async def _dirty(
    connection: asyncpg.Connection, accounts: Sequence[UUID], span: tuple[int, int], step: int
) -> dict[UUID, Dirty]:
    dirty: dict[UUID, dict[int, list[int]]] = {account: {} for account in accounts}
    begin, end = span
    for row in await connection.fetch(_DIRTY, accounts, step, time(begin) - _LONGEST, time(end)):
        dirty[row["account_id"]].setdefault(row["step"], []).append(row["at"])
    return {**dirty}


def _batches(parts: Sequence[Part], sizes: Mapping[UUID, int], most: int) -> Iterator[list[Part]]:
    """Parts whose windows hold `most` cells at most, or one window; `sizes` are the cells of each."""
    batch: list[Part] = []
    cells = 0
    for account, whole in parts:
        for piece in whole.split(most // sizes[account]):
            more = piece.windows * sizes[account]
            if batch and cells + more > most:
                yield batch
                batch, cells = [], 0
            batch.append((account, piece))
            cells += more
    if batch:
        yield batch


class _Sums:
    """Adds cells up to a grid of M members over T intervals."""

    def __init__(self, members: int, edges: NDArray[np.int64], *, with_sketches: bool) -> None:
        self._edges, self._shape = edges, (members, len(edges) - 1)
        size = members * (len(edges) - 1)
        self._value, self._count = np.zeros(size), np.zeros(size)
        self._known = sketches.none(size) if with_sketches else None
        self._parts: list[Sketches] = []
        self._cells: list[NDArray[np.int64]] = []

    def add(self, found: Found) -> None:
        column = np.searchsorted(self._edges, found.at, side="right") - 1
        cell = found.row * self._shape[1] + column
        np.add.at(self._value, cell, found.value)
        np.add.at(self._count, cell, found.count.astype(np.float64))
        if self._known is not None:
            self._parts.append(found.sketches)
            self._cells.append(cell)

    def settle(self) -> None:
        """Merge the sketches that were added since."""
        if self._known is None or not self._parts:
            return
        size = len(self._known)
        cells = np.concatenate([np.arange(size), *self._cells])
        self._known = sketches.merge(sketches.concat([self._known, *self._parts]), cells, size)
        self._parts, self._cells = [], []

    def grid(self) -> Grid:
        return Grid(self._value.reshape(self._shape), self._count.reshape(self._shape), self._known)

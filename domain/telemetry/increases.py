"""Turns readings of running totals into what they increased by, and remembers the newest of them.

All is kept in the database, beside what it was derived from: any process may take the next reading in.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import cumulative, packing, sketches
from domain.telemetry.blocks import SHARD
from domain.telemetry.columns import Columns
from domain.telemetry.cumulative import Increases, Readings
from domain.telemetry.points import Mode

HORIZON_S = 180
"""So far behind the newest reading of its series one may come and be told apart."""
_LEVEL = 1
_KNOWN = """
SELECT w.ordinality - 1 AS holder, r.readings
FROM unnest($1::uuid[], $2::int[], $3::int[]) WITH ORDINALITY AS w (account_id, shard, source)
JOIN last_readings r USING (account_id, shard, source)
"""
_REMEMBER = """
INSERT INTO last_readings (account_id, shard, source, readings)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::int[], $4::bytea[])
ON CONFLICT (account_id, shard, source) DO UPDATE SET readings = excluded.readings
"""


class _Holders(NamedTuple):
    """Who holds readings: a source, of a shard of an account. Both are indices into those of the batch."""

    account: NDArray[np.int64]
    shard: NDArray[np.int64]
    source: NDArray[np.int64]

    def keys(self, points: Columns) -> tuple[list[UUID], list[int], list[int]]:
        return (
            [points.accounts[index] for index in self.account.tolist()],
            self.shard.tolist(),
            [points.sources[index] for index in self.source.tolist()],
        )


async def derive(connection: asyncpg.Connection, points: Columns) -> Columns:
    """The increases of readings, each of which replaces what its minute held; moves what is remembered."""
    holders, holder = _holders(points)
    rows = await connection.fetch(_KNOWN, *holders.keys(points))
    new = _readings(points, _joint(holder, points.number))
    remembered, increases = cumulative.advance(_known(rows), new, horizon_s=HORIZON_S)
    blobs = _blobs(remembered, len(holders.shard))
    await connection.execute(_REMEMBER, *holders.keys(points), blobs)
    return _columns(points, holders, increases)


def _holders(points: Columns) -> tuple[_Holders, NDArray[np.int64]]:
    """Those of the points, and for each point which of them."""
    sources, shards = len(points.sources), int(points.number.max()) // SHARD + 1
    place = points.account.astype(np.int64) * shards + points.number // SHARD
    found, holder = np.unique(place * sources + points.source, return_inverse=True)
    place = found // sources
    return _Holders(place // shards, place % shards, found % sources), holder


def _joint(holder: NDArray[np.int64], number: NDArray[np.int32]) -> NDArray[np.int32]:
    """A number for each series of each holder, so that all are advanced at once; positive."""
    return ((holder + 1) * SHARD + number % SHARD).astype(np.int32)


def _readings(points: Columns, number: NDArray[np.int32]) -> Readings:
    return Readings(number, points.start, points.at, points.time, points.value, points.count, points.sketches)


def _known(rows: Sequence[asyncpg.Record]) -> Readings:
    """What is remembered, under joint numbers."""
    parts = []
    for row in sorted(rows, key=lambda row: row["holder"]):
        found = cumulative.decode(packing.decompress(row["readings"]))
        holder = np.full(len(found), row["holder"])
        parts.append(replace(found, number=_joint(holder, found.number)))
    return _together(parts)


def _together(parts: Sequence[Readings]) -> Readings:
    if not parts:
        return cumulative.none()
    arrays = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in ("number", "start", "at", "time", "value", "count")
    }
    return Readings(**arrays, sketches=sketches.concat([one.sketches for one in parts]))


def _blobs(remembered: Readings, holders: int) -> list[bytes]:
    """The readings of each holder, whose numbers are those within its shard."""
    ends = np.searchsorted(remembered.number, (np.arange(holders) + 2) * SHARD)
    starts = np.r_[0, ends[:-1]]
    return [
        packing.compress(cumulative.encode(_own(remembered, start, end)), level=_LEVEL)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _own(remembered: Readings, start: int, end: int) -> Readings:
    part = remembered.take(np.arange(start, end))
    return replace(part, number=part.number % SHARD + SHARD)


def _columns(points: Columns, holders: _Holders, increases: Increases) -> Columns:
    holder = increases.number // SHARD - 1
    nothing = np.zeros(len(increases), np.int64)
    return Columns(
        accounts=points.accounts,
        sources=points.sources,
        account=holders.account[holder].astype(np.int32),
        source=holders.source[holder].astype(np.int32),
        number=(holders.shard[holder] * SHARD + increases.number % SHARD).astype(np.int32),
        at=increases.at,
        value=increases.value,
        count=increases.count,
        mode=np.full(len(increases), Mode.REPLACE, np.uint8),
        start=nothing,
        time=nothing,
        sketches=increases.sketches,
    )

"""Fetches blocks and chunks a few at a time, and of them only the cells of the series that are asked for."""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import blocks, chunks, merging, sketches, steps
from domain.telemetry.blocks import SHARD, Cells
from domain.telemetry.minutes import time
from domain.telemetry.pieces import Piece
from domain.telemetry.sketches import Sketches

Member = tuple[UUID, int]
"""A measured series: its account, and its number there."""
Part = tuple[UUID, Piece]
"""Windows of an account."""

_ROWS = 256
_DECODED = 32
"""Blobs that are decoded at once: a block may hold hundreds of sketches."""

_ROLLUPS = """
SELECT r.account_id, r.shard AS place, extract(epoch FROM r.at)::bigint AS at, r.cells, false AS is_chunk
FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[]) AS w (account_id, step, begins, ends)
JOIN rollups r ON r.account_id = w.account_id AND r.step = w.step AND r.at >= w.begins AND r.at < w.ends
WHERE r.shard = ANY($5)
"""
# One statement, since a minute moves from a block into a chunk.
_MINUTES = """
WITH w AS (
  SELECT * FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) AS w (account_id, begins, ends)
)
SELECT m.account_id, m.shard AS place, extract(epoch FROM m.at)::bigint AS at, m.cells, false AS is_chunk
FROM w JOIN minutes m ON m.account_id = w.account_id AND m.at >= w.begins AND m.at < w.ends
WHERE m.shard = ANY($4) AND m.at >= $6 AND m.at < $7
UNION ALL
SELECT c.account_id, c.number, extract(epoch FROM c.day)::bigint, c.cells, true
FROM (
  SELECT DISTINCT d.account_id, d.shard, d.day FROM w
  JOIN shard_days d ON d.account_id = w.account_id AND d.day >= (w.begins AT TIME ZONE 'UTC')::date
    AND d.day::timestamp < w.ends AT TIME ZONE 'UTC'
  WHERE d.is_packed AND d.shard = ANY($4)
) AS d
JOIN chunks c ON c.account_id = d.account_id AND c.day = d.day AND c.number / $8 = d.shard
WHERE c.number = ANY($5)
"""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Cells of members: of the one in this row, in the window that begins at this epoch second."""

    row: NDArray[np.int64]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    sketches: Sketches


class Source:
    """What is kept of `members`, of whom the i-th is row i."""

    def __init__(
        self, connection: asyncpg.Connection, members: Sequence[Member], *, with_sketches: bool
    ) -> None:
        self._connection, self._with_sketches = connection, with_sketches
        self.accounts = list(dict.fromkeys(account for account, _ in members))
        self._index = {account: index for index, account in enumerate(self.accounts)}
        account = np.array([self._index[account] for account, _ in members], np.int64)
        number = np.array([number for _, number in members], np.int64)
        self._order = np.lexsort((number, account))
        self._keys = ((account << 32) | number)[self._order]
        self._numbers = np.unique(number).tolist()
        self.shards = np.unique(number // SHARD).tolist()
        self.sizes = dict(zip(self.accounts, np.bincount(account).tolist(), strict=True))
        """How many of the members are of each account."""

    async def cells(self, parts: Sequence[Part]) -> AsyncIterator[Found]:
        """The cells of all windows; a minute's are the sum over its sources, each of them once."""
        rollups = [part for part in parts if part[1].step != steps.MINUTE]
        if rollups:
            async for found in self._rollups(rollups):
                yield found
        minutes = [part for part in parts if part[1].step == steps.MINUTE]
        if minutes:
            yield _by_minute([found async for found in self._minutes(minutes)])

    async def _rollups(self, parts: Sequence[Part]) -> AsyncIterator[Found]:
        accounts, begins, ends = _columns(parts)
        rolled_up = [piece.step for _, piece in parts]
        arguments = accounts, rolled_up, begins, ends, self.shards
        async for rows in self._fetched(_ROLLUPS, arguments):
            yield self._of_blocks(rows)

    async def _minutes(self, parts: Sequence[Part]) -> AsyncIterator[Found]:
        accounts, begins, ends = _columns(parts)
        arguments = accounts, begins, ends, self.shards, self._numbers, min(begins), max(ends), SHARD
        spans = _spans(parts, self._index)
        async for rows in self._fetched(_MINUTES, arguments):
            in_chunks = [row for row in rows if row["is_chunk"]]
            if len(in_chunks) < len(rows):
                yield self._of_blocks([row for row in rows if not row["is_chunk"]])
            if in_chunks:
                yield self._of_chunks(in_chunks, spans)

    async def _fetched(
        self, statement: str, arguments: Iterable[object]
    ) -> AsyncIterator[Sequence[asyncpg.Record]]:
        cursor = await self._connection.cursor(statement, *arguments)
        while rows := await cursor.fetch(_ROWS):
            for start in range(0, len(rows), _DECODED):
                yield rows[start : start + _DECODED]
            if len(rows) < _ROWS:
                break

    def _of_blocks(self, rows: Sequence[asyncpg.Record]) -> Found:
        cells = blocks.decode(
            [row["cells"] for row in rows], [row["place"] for row in rows], with_sketches=self._with_sketches
        )
        account, at = self._where(rows)
        row = self._rows(account[cells.block], cells.number)
        kept = np.flatnonzero(row >= 0)
        return self._found(row[kept], at[cells.block[kept]], cells, kept)

    def _of_chunks(self, rows: Sequence[asyncpg.Record], spans: NDArray[np.int64]) -> Found:
        """Of days that are unpacked whole, what lies in the pieces of its account."""
        points = chunks.decode([row["cells"] for row in rows], with_sketches=self._with_sketches)
        account, day = self._where(rows)
        number = np.array([row["place"] for row in rows], np.int64)
        row = self._rows(account, number)[points.chunk]
        at = day[points.chunk] + points.minute * 60
        kept = np.flatnonzero((row >= 0) & _is_in(spans, account[points.chunk], at))
        return self._found(row[kept], at[kept], points, kept)

    def _where(self, rows: Sequence[asyncpg.Record]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        account = np.array([self._index[row["account_id"]] for row in rows], np.int64)
        return account, np.array([row["at"] for row in rows], np.int64)

    def _rows(self, account: NDArray[np.int64], number: NDArray[np.integer]) -> NDArray[np.int64]:
        """The row of each member, -1 for series that are not asked for."""
        key = (account << 32) | number.astype(np.int64)
        place = np.minimum(np.searchsorted(self._keys, key), len(self._keys) - 1)
        return np.where(self._keys[place] == key, self._order[place], -1)

    def _found(
        self,
        row: NDArray[np.int64],
        at: NDArray[np.int64],
        cells: Cells | chunks.Points,
        kept: NDArray[np.int64],
    ) -> Found:
        known = sketches.take(cells.sketches, kept)
        return Found(row, at, cells.value[kept], cells.count[kept], known)


def _by_minute(parts: Sequence[Found]) -> Found:
    """The sum over all sources of each minute, in which what has no observations counts as one."""
    row, at, value, count = (
        np.concatenate([np.zeros(0, kind), *(getattr(one, name) for one in parts)])
        for name, kind in (("row", np.int64), ("at", np.int64), ("value", np.float64), ("count", np.int64))
    )
    known = sketches.concat([one.sketches for one in parts])
    summed = blocks.counted(merging.add(Cells(at // 60, row.astype(np.int32), value, count, known)))
    return Found(
        summed.number.astype(np.int64), summed.block * 60, summed.value, summed.count, summed.sketches
    )


def _columns(parts: Sequence[Part]) -> tuple[list[UUID], list[datetime], list[datetime]]:
    return (
        [account for account, _ in parts],
        [time(piece.begin) for _, piece in parts],
        [time(piece.end) for _, piece in parts],
    )


def _spans(parts: Sequence[Part], index: dict[UUID, int]) -> NDArray[np.int64]:
    """Accounts, beginnings and ends of the pieces, in this order: 3 × N."""
    return np.array(sorted((index[account], piece.begin, piece.end) for account, piece in parts), np.int64).T


def _is_in(spans: NDArray[np.int64], account: NDArray[np.int64], at: NDArray[np.int64]) -> NDArray[np.bool_]:
    of_span, begin, end = spans
    place = np.searchsorted((of_span << 36) + begin, (account << 36) + at, side="right") - 1
    within: NDArray[np.bool_] = (place >= 0) & (of_span[place] == account) & (at < end[place])
    return within

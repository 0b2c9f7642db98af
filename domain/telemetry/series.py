"""Registers series and sources. Within its account a measured series has a number, from 1 and without gaps.

The row of `account_series` is locked while numbers are given, so that any number of processes may do so.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

import asyncpg
from sqlalchemy import LargeBinary, Uuid, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import raw
from domain.core.ids import uuid7
from domain.telemetry import points
from domain.telemetry.derived import DERIVED, watched
from domain.telemetry.models import Series
from domain.telemetry.points import Kind, Labels

MOST_SERIES = 100_000
MOST_SOURCES = 10_000
Identity = tuple[UUID, str, Labels]

_FIND = """
SELECT s.account_id, s.fingerprint, s.number
FROM unnest($1::uuid[], $2::bytea[]) AS w (account_id, fingerprint)
JOIN series s ON s.account_id = w.account_id AND s.fingerprint = w.fingerprint
"""
_LOCK = """
INSERT INTO account_series (account_id, last_number, watched_number)
SELECT id, 0, 0 FROM unnest($1::uuid[]) AS a (id) ORDER BY id
ON CONFLICT (account_id) DO UPDATE SET last_number = account_series.last_number
RETURNING account_id, last_number
"""
_INSERT = """
INSERT INTO series (id, account_id, number, metric, kind, labels, is_measured, fingerprint, created_at)
SELECT id, account_id, number, metric, kind, labels::jsonb, true, fingerprint, $8
FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::text[], $5::text[], $6::text[], $7::bytea[])
  AS n (id, account_id, number, metric, kind, labels, fingerprint)
"""
_RAISE = """
UPDATE account_series a SET last_number = n.number
FROM (SELECT account_id, max(number) AS number FROM unnest($1::uuid[], $2::int[]) AS n (account_id, number)
      GROUP BY 1) n
WHERE a.account_id = n.account_id
"""
_NUMBERED = """
SELECT s.account_id, s.number, s.metric, s.labels::text, s.kind
FROM unnest($1::uuid[], $2::int[]) AS w (account_id, number)
JOIN series s ON s.account_id = w.account_id AND s.number = w.number
"""
# Whoever locks several accounts does so in their order.
_UNWATCHED = """
SELECT account_id, watched_number, last_number FROM account_series
WHERE account_id = ANY ($1::uuid[]) AND last_number > watched_number ORDER BY account_id FOR NO KEY UPDATE
"""
_NEW = """
SELECT s.account_id, s.metric, s.labels::text FROM unnest($1::uuid[], $2::int[]) AS w (account_id, number)
JOIN series s ON s.account_id = w.account_id AND s.number > w.number WHERE s.metric = ANY ($3::text[])
"""
_WATCHED = """
UPDATE account_series a SET watched_number = w.number
FROM unnest($1::uuid[], $2::int[]) AS w (account_id, number) WHERE a.account_id = w.account_id
"""
# Others that register sources of the scope wait, or all of them together would be too many.
_LOCK_SOURCES = "SELECT pg_advisory_xact_lock(hashtextextended('telemetry.sources ' || $1, 0))"
_FIND_SOURCES = "SELECT name, number FROM sources WHERE scope = $1 AND name = ANY ($2::text[])"
_INSERT_SOURCES = """
INSERT INTO sources (id, scope, name, created_at)
SELECT id, $1, name, $4 FROM unnest($2::uuid[], $3::text[]) AS n (id, name)
"""


class Measured(NamedTuple):
    """A measured series of an account."""

    account_id: UUID
    metric: str
    labels: Labels
    kind: Kind

    @property
    def mark(self) -> tuple[UUID, bytes]:
        """What is unique to it."""
        return self.account_id, fingerprint(self.metric, self.labels, measured=True)


def fingerprint(metric: str, labels: Labels, *, measured: bool) -> bytes:
    """SHA-256 of what makes a series the same within its account."""
    return hashlib.sha256(json.dumps([metric, labels, measured]).encode()).digest()


async def numbers(
    session: AsyncSession, wanted: Iterable[Measured], *, at: datetime, most: int = MOST_SERIES
) -> dict[Measured, int]:
    """The number of each, given to those that had none; without those beyond `most` in an account."""
    connection = await raw(session)
    by_mark = {one.mark: one for one in wanted}
    found = await _known(connection, list(by_mark))
    missing = [mark for mark in by_mark if mark not in found]
    if missing:
        rows = await connection.fetch(_LOCK, sorted({account for account, _ in missing}))
        # Others may have given numbers until the accounts were locked.
        found |= await _known(connection, missing)
        new = sorted((mark for mark in missing if mark not in found), key=_account)
        given = _given(new, last=dict(rows), most=most)
        await _insert(connection, {by_mark[mark]: number for mark, number in given.items()}, at=at)
        found |= given
    return {by_mark[mark]: number for mark, number in found.items()}


async def numbered(session: AsyncSession, wanted: Sequence[tuple[UUID, int]]) -> list[tuple[int, Measured]]:
    """Of these accounts and numbers, the series that there are, with their numbers."""
    connection = await raw(session)
    rows = await connection.fetch(_NUMBERED, [account for account, _ in wanted], [n for _, n in wanted])
    return [
        (number, Measured(account_id, metric, points.labels(json.loads(labels)), Kind[kind]))
        for account_id, number, metric, labels, kind in rows
    ]


Marks = dict[tuple[UUID, bytes], int]


async def _known(connection: asyncpg.Connection, marks: Sequence[tuple[UUID, bytes]]) -> Marks:
    rows = await connection.fetch(_FIND, [account for account, _ in marks], [print_ for _, print_ in marks])
    return {(account, print_): number for account, print_, number in rows}


def _account(mark: tuple[UUID, bytes]) -> UUID:
    return mark[0]


def _given(new: Sequence[tuple[UUID, bytes]], *, last: dict[UUID, int], most: int) -> Marks:
    """Each account's next numbers, as far as there are any; `new` is in order of accounts."""
    given: Marks = {}
    for account, marks in groupby(new, key=_account):
        free = range(last[account] + 1, most + 1)
        given.update(zip(marks, free, strict=False))
    return given


async def _insert(connection: asyncpg.Connection, new: dict[Measured, int], *, at: datetime) -> None:
    accounts, given = [one.account_id for one in new], list(new.values())
    await connection.execute(
        _INSERT,
        [uuid7() for _ in new],
        accounts,
        given,
        [one.metric for one in new],
        [one.kind.name for one in new],
        [json.dumps(dict(one.labels)) for one in new],
        [one.mark[1] for one in new],
        at,
    )
    await connection.execute(_RAISE, accounts, given)


async def sources(
    session: AsyncSession, names: Sequence[str], *, scope: str, at: datetime, most: int = MOST_SOURCES
) -> dict[str, int]:
    """The number of each source of a scope, given to those that had none; without those beyond `most`."""
    connection = await raw(session)
    found: dict[str, int] = dict(await connection.fetch(_FIND_SOURCES, scope, names))
    if len(found) < len(names):
        await connection.execute(_LOCK_SOURCES, scope)
        found = dict(await connection.fetch(_FIND_SOURCES, scope, names))
        known = await connection.fetchval("SELECT count(*) FROM sources WHERE scope = $1", scope)
        new = [name for name in names if name not in found][: max(most - known, 0)]
        await connection.execute(_INSERT_SOURCES, scope, [uuid7() for _ in new], new, at)
        found |= dict(await connection.fetch(_FIND_SOURCES, scope, new))
    return found


async def register(
    session: AsyncSession, identities: Sequence[Identity], *, measured: bool, at: datetime
) -> dict[Identity, UUID]:
    """The ids of these series, made where there are none; safe in twos."""
    if not identities:
        return {}
    prints = {(i[0], fingerprint(i[1], i[2], measured=measured)): i for i in identities}
    if measured:
        await numbers(session, [Measured(*i, points.metric(i[1]).kind) for i in identities], at=at)
    else:
        await _register_derived(session, prints, at=at)
    # Arrays: a statement has 32,767 parameters at most.
    accounts = literal(sorted({account for account, _ in prints}), ARRAY(Uuid))
    marks = literal([mark for _, mark in prints], ARRAY(LargeBinary))
    found = await session.execute(
        select(Series.id, Series.account_id, Series.fingerprint).where(
            Series.account_id == any_(accounts), Series.fingerprint == any_(marks)
        )
    )
    return {
        prints[account, mark]: series_id for series_id, account, mark in found if (account, mark) in prints
    }


async def _register_derived(
    session: AsyncSession, prints: dict[tuple[UUID, bytes], Identity], *, at: datetime
) -> None:
    rows = [
        {
            "id": uuid7(),
            "account_id": account,
            "metric": prints[account, mark][1],
            "kind": points.metric(prints[account, mark][1]).kind,
            "labels": dict(prints[account, mark][2]),
            "is_measured": False,
            "fingerprint": mark,
            "created_at": at,
        }
        for account, mark in sorted(prints)
    ]
    await session.execute(insert(Series).on_conflict_do_nothing(), rows)


async def watch(session: AsyncSession, account_ids: Iterable[UUID], *, at: datetime) -> None:
    """Register the derived series that these accounts' measured ones are part of; each is looked at once."""
    connection = await raw(session)
    rows = await connection.fetch(_UNWATCHED, list(account_ids))
    if not rows:
        return
    accounts, after = [row["account_id"] for row in rows], [row["watched_number"] for row in rows]
    identities: set[Identity] = set()
    measured = sorted({metric.source for metric in DERIVED.values()})
    for account, source, labels in await connection.fetch(_NEW, accounts, after, measured):
        names = [metric.name for metric in DERIVED.values() if metric.source == source]
        fixed = [tuple(one.items()) for one in watched(json.loads(labels))]
        identities.update((account, name, one) for name in names for one in fixed)
    await register(session, sorted(identities), measured=False, at=at)
    await connection.execute(_WATCHED, accounts, [row["last_number"] for row in rows])

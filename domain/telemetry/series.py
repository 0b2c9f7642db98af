"""Registers series and sources; their ids are found once a process and then remembered."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

from sqlalchemy import LargeBinary, Text, Uuid, any_, literal, select
from sqlalchemy.dialects.postgresql import ARRAY, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import queries as catalog
from domain.core.db import Database
from domain.core.ids import uuid7
from domain.telemetry.columns import Key
from domain.telemetry.derived import DERIVED, watched
from domain.telemetry.models import Series, Source
from domain.telemetry.points import Labels, Point

_REMEMBERED = 200_000
_MOVES_SEEN_AFTER = timedelta(seconds=30)
"""So long a sender may still write to an account that was taken from it."""
Identity = tuple[UUID, str, Labels]
K = TypeVar("K")


def fingerprint(metric: str, labels: Labels, *, measured: bool) -> bytes:
    """SHA-256 of what makes a series the same within its account."""
    return hashlib.sha256(json.dumps([metric, labels, measured]).encode()).digest()


class Registry:
    """Finds the keys of points, registering series and sources on first sight.

    What is remembered is told apart by scope: one principal's accounts are not another's.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._accounts: dict[tuple[str, str], tuple[UUID, datetime]] = {}
        self._series: dict[Identity, UUID] = {}
        self._sources: dict[str, UUID] = {}

    async def keys(
        self, points: Sequence[Point], *, scope: str, subject: str, at: datetime
    ) -> list[Key | None]:
        """The key of each point; None where the scope knows no such account."""
        accounts = await self._find_accounts({point.account for point in points}, scope=scope, at=at)
        known = [(accounts.get(point.account), point) for point in points]
        identities = {(a, p.metric, p.labels) for a, p in known if a is not None}
        names = {_source(subject, p) for a, p in known if a is not None}
        series, sources = await self._find(identities, names, scope=scope, at=at)
        return [
            None if a is None else Key(a, series[a, p.metric, p.labels], sources[_source(subject, p)])
            for a, p in known
        ]

    async def _find_accounts(
        self, names: AbstractSet[str], *, scope: str, at: datetime
    ) -> Mapping[str, UUID]:
        """Those that the scope sees; asked for again after a while, since accounts change hands."""
        found: dict[str, UUID] = {}
        for name in names:
            account_id, since = self._accounts.get((scope, name), (None, at))
            if account_id is not None and at - since < _MOVES_SEEN_AFTER:
                found[name] = account_id
        if missing := sorted(names - found.keys()):
            async with self._db.read(scope) as session:
                rows = await catalog.accounts_by_external_id(session, missing)
            found.update({name: row.id for name, row in rows.items()})
            self._accounts.update({(scope, name): (row.id, at) for name, row in rows.items()})
        return found

    async def _find(
        self, identities: AbstractSet[Identity], names: AbstractSet[str], *, scope: str, at: datetime
    ) -> tuple[Mapping[Identity, UUID], Mapping[str, UUID]]:
        """The ids of series and sources. What others forget meanwhile is not missed here."""
        series = {one: self._series[one] for one in identities if one in self._series}
        sources = {one: self._sources[one] for one in names if one in self._sources}
        new, new_sources = identities - series.keys(), names - sources.keys()
        if new or new_sources:
            async with self._db.transaction(scope) as session:
                found = await register(session, sorted(new), measured=True, at=at)
                found_sources = await _register_sources(session, sorted(new_sources), scope=scope, at=at)
            # Remembered only once committed.
            _remember(self._series, found)
            _remember(self._sources, found_sources)
            series, sources = series | found, sources | found_sources
        return series, sources


def _remember(known: dict[K, UUID], found: Mapping[K, UUID]) -> None:
    if len(known) + len(found) > _REMEMBERED:
        known.clear()
    known.update(found)


def _source(subject: str, point: Point) -> str:
    return f"{subject}/{point.source}"


async def register(
    session: AsyncSession, identities: Sequence[Identity], *, measured: bool, at: datetime
) -> dict[Identity, UUID]:
    """The ids of these series, made where there are none; safe in twos."""
    if not identities:
        return {}
    prints = {(i[0], fingerprint(i[1], i[2], measured=measured)): i for i in identities}
    rows = [
        {
            "id": uuid7(),
            "account_id": account,
            "metric": prints[account, mark][1],
            "labels": dict(prints[account, mark][2]),
            "is_measured": measured,
            "fingerprint": mark,
            "created_at": at,
        }
        for account, mark in sorted(prints)
    ]
    await session.execute(insert(Series).on_conflict_do_nothing(), rows)
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


async def _register_sources(
    session: AsyncSession, names: Sequence[str], *, scope: str, at: datetime
) -> dict[str, UUID]:
    if not names:
        return {}
    rows = [{"id": uuid7(), "scope": scope, "name": name, "created_at": at} for name in names]
    await session.execute(insert(Source).on_conflict_do_nothing(), rows)
    wanted = literal(list(names), ARRAY(Text))
    found = await session.execute(
        select(Source.name, Source.id).where(Source.scope == scope, Source.name == any_(wanted))
    )
    return {name: source_id for name, source_id in found}


async def watch(session: AsyncSession, series_ids: Iterable[UUID], *, at: datetime) -> None:
    """Register the derived series that these measured ones are part of."""
    wanted = literal(list(series_ids), ARRAY(Uuid))
    rows = await session.scalars(select(Series).where(Series.id == any_(wanted)))
    identities: set[Identity] = set()
    for row in rows:
        for metric in DERIVED.values():
            if row.metric == metric.source:
                identities.update(
                    (row.account_id, metric.name, tuple(fixed.items())) for fixed in watched(row.labels)
                )
    await register(session, sorted(identities), measured=False, at=at)

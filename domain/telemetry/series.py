"""Registers series and sources; their ids are found once a process and then remembered."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import queries as catalog
from domain.core.db import Database
from domain.core.ids import uuid7
from domain.telemetry.columns import Key
from domain.telemetry.derived import DERIVED, watched
from domain.telemetry.models import Series, Source
from domain.telemetry.points import Labels, Point

_REMEMBERED = 200_000
Identity = tuple[UUID, str, Labels]


def fingerprint(metric: str, labels: Labels, *, measured: bool) -> bytes:
    """SHA-256 of what makes a series the same within its account."""
    return hashlib.sha256(json.dumps([metric, labels, measured]).encode()).digest()


class Registry:
    """Finds the keys of points, registering series and sources on first sight.

    What is remembered is told apart by scope: one principal's accounts are not another's.
    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._accounts: dict[tuple[str, str], UUID] = {}
        self._series: dict[Identity, UUID] = {}
        self._sources: dict[str, UUID] = {}

    async def keys(
        self, points: Sequence[Point], *, scope: str, subject: str, at: datetime
    ) -> list[Key | None]:
        """The key of each point; None where the scope knows no such account."""
        await self._learn(points, scope=scope, subject=subject, at=at)
        found: list[Key | None] = []
        for point in points:
            account = self._accounts.get((scope, point.account))
            if account is None:
                found.append(None)
            else:
                series = self._series[account, point.metric, point.labels]
                found.append(Key(account, series, self._sources[_source(subject, point)]))
        return found

    async def _learn(self, points: Sequence[Point], *, scope: str, subject: str, at: datetime) -> None:
        if len(self._series) > _REMEMBERED:
            self._series.clear()
        accounts = {p.account for p in points if (scope, p.account) not in self._accounts}
        if accounts:
            async with self._db.read(scope) as session:
                rows = await catalog.accounts_by_external_id(session, sorted(accounts))
            self._accounts.update({(scope, external): row.id for external, row in rows.items()})
        known = [(self._accounts.get((scope, p.account)), p) for p in points]
        series = {(a, p.metric, p.labels) for a, p in known if a is not None} - self._series.keys()
        sources = {_source(subject, p) for a, p in known if a is not None} - self._sources.keys()
        if series or sources:
            async with self._db.transaction(scope) as session:
                found = await register(session, sorted(series), measured=True, at=at)
                found_sources = await _register_sources(session, sorted(sources), at=at)
            # Remembered only once committed.
            self._series.update(found)
            self._sources.update(found_sources)


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
    found = await session.execute(
        select(Series.id, Series.account_id, Series.fingerprint).where(
            Series.account_id.in_({account for account, _ in prints}),
            Series.fingerprint.in_([mark for _, mark in prints]),
        )
    )
    return {
        prints[account, mark]: series_id for series_id, account, mark in found if (account, mark) in prints
    }


async def _register_sources(session: AsyncSession, names: Sequence[str], *, at: datetime) -> dict[str, UUID]:
    if not names:
        return {}
    rows = [{"id": uuid7(), "name": name, "created_at": at} for name in names]
    await session.execute(insert(Source).on_conflict_do_nothing(), rows)
    found = await session.execute(select(Source.name, Source.id).where(Source.name.in_(names)))
    return {name: source_id for name, source_id in found}


async def watch(session: AsyncSession, series_ids: Iterable[UUID], *, at: datetime) -> None:
    """Register the derived series that these measured ones are part of."""
    rows = await session.scalars(select(Series).where(Series.id.in_(list(series_ids))))
    identities: set[Identity] = set()
    for row in rows:
        for metric in DERIVED.values():
            if row.metric == metric.source:
                identities.update(
                    (row.account_id, metric.name, tuple(fixed.items())) for fixed in watched(row.labels)
                )
    await register(session, sorted(identities), measured=False, at=at)

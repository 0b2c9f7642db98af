"""Builders: each makes one row with defaults for all that a test does not care about.

`place` is a session, or a Database in which the row is committed; rows of the workers' tables
(an incident's accounts, insights) need `worker_db`. Nothing is recorded in the outbox.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access import service as access
from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.access.scopes import granted
from domain.anomalies.models import AccountWatch, Anomaly, Direction, Phase
from domain.catalog.models import (
    Account,
    AccountTree,
    ComponentStatus,
    Dependency,
    Partner,
    PartnerKind,
    Service,
)
from domain.core.db import Database, raw
from domain.core.events import Event
from domain.core.ids import uuid7
from domain.incidents.models import (
    ActorKind,
    HealthKind,
    Impact,
    Incident,
    IncidentAccount,
    IncidentPartner,
    IncidentService,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Severity,
)
from domain.insights.models import Insight, InsightKind, InsightStatus
from domain.telemetry import blocks, marks, merging, minutes, points, sketches, steps
from domain.telemetry.blocks import SHARD
from domain.telemetry.columns import Columns
from domain.telemetry.derived import DERIVED
from domain.telemetry.merging import Rows
from domain.telemetry.models import DirtyWindow, Rollup, Series, Source
from domain.telemetry.series import fingerprint

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)

Place = Database | AsyncSession
_number = count(1)


@asynccontextmanager
async def _open(place: Place) -> AsyncIterator[AsyncSession]:
    if isinstance(place, AsyncSession):
        yield place
        return
    async with place.transaction("operator") as session:
        yield session


async def _add(place: Place, *rows: object) -> None:
    """Add rows in the order given, so that those referred to come first."""
    async with _open(place) as session:
        for row in rows:
            session.add(row)
            await session.flush()


async def account(
    place: Place, *, name: str | None = None, parent: Account | None = None, **columns: Any
) -> Account:
    """An account below `parent`, with its rows in the tree."""
    number = next(_number)
    values: dict[str, Any] = {
        "external_id": f"merchant-{number}",
        "country": "BR",
        "currency": "BRL",
        "time_zone": "America/Sao_Paulo",
        "created_at": NOON,
    }
    row = Account(
        **values | {"id": uuid7(), "name": name or f"Merchant {number}"} | columns,
        parent_id=parent.id if parent else None,
    )
    async with _open(place) as session:
        await _add(session, row)
        above: Sequence[UUID] = ()
        if parent:
            tree = select(AccountTree.ancestor_id).where(AccountTree.account_id == parent.id)
            above = (await session.scalars(tree)).all()
        pairs = [{"ancestor_id": ancestor_id, "account_id": row.id} for ancestor_id in (*above, row.id)]
        await session.execute(insert(AccountTree), pairs)
    return row


def _component(kind: str, name: str | None) -> dict[str, Any]:
    number = next(_number)
    return {
        "id": uuid7(),
        "code": f"{kind}-{number}",
        "name": name or f"{kind.capitalize()} {number}",
        "status": ComponentStatus.OPERATIONAL,
        "status_since": NOON,
        "created_at": NOON,
    }


async def service(place: Place, *, name: str | None = None, **columns: Any) -> Service:
    row = Service(**_component("service", name) | columns)
    await _add(place, row)
    return row


async def partner(place: Place, *, name: str | None = None, **columns: Any) -> Partner:
    defaults: dict[str, Any] = {"kind": PartnerKind.ACQUIRER, "regions": ["BR"]}
    row = Partner(**_component("partner", name) | defaults | columns)
    await _add(place, row)
    return row


async def dependency(
    place: Place, account: Account, component: Service | Partner, *, traffic_share: float = 0.5
) -> Dependency:
    row = Dependency(id=uuid7(), account_id=account.id, traffic_share=traffic_share)
    if isinstance(component, Service):
        row.service_id = component.id
    else:
        row.partner_id = component.id
    await _add(place, row)
    return row


async def incident(
    place: Place,
    *,
    partners: Sequence[Partner] = (),
    services: Sequence[Service] = (),
    accounts: Sequence[Account] = (),
    **columns: Any,
) -> Incident:
    """A live incident that has reached `accounts`; one with `resolved_at` is RESOLVED."""
    number = next(_number)
    values: dict[str, Any] = {
        "id": uuid7(),
        "kind": HealthKind.COMPONENT_STATUS,
        "title": f"Payments are slow ({number})",
        "summary": "Some payments take longer than usual.",
        "status": IncidentStatus.RESOLVED if columns.get("resolved_at") else IncidentStatus.INVESTIGATING,
        "impact": Impact.MAJOR,
        "severity": Severity.CRITICAL,
        "origin": Origin.DECLARED,
        "grouping_key": f"made:{number}",
        "is_public": False,
        "started_at": NOON,
        "created_at": NOON,
        "updated_at": NOON,
    }
    row = Incident(**values | columns)
    links: list[object] = [IncidentPartner(incident_id=row.id, partner_id=one.id) for one in partners]
    links += [IncidentService(incident_id=row.id, service_id=one.id) for one in services]
    links += [_reached(row, one) for one in accounts]
    await _add(place, row, *links)
    return row


def _reached(incident: Incident, account: Account) -> IncidentAccount:
    return IncidentAccount(
        incident_id=incident.id,
        account_id=account.id,
        reached_at=NOON,
        updated_at=NOON,
        summary="",
        currency=account.currency,
    )


async def update(place: Place, incident: Incident, **columns: Any) -> IncidentUpdate:
    values: dict[str, Any] = {
        "id": uuid7(),
        "status": incident.status,
        "body": "We are looking into it.",
        "display_at": NOON,
        "created_at": NOON,
        "updated_at": NOON,
        "author_kind": ActorKind.PERSON,
        "author_name": "on-call",
        "affected_components": [],
    }
    row = IncidentUpdate(**values | columns, incident_id=incident.id)
    await _add(place, row)
    return row


async def insight(place: Place, account: Account, **columns: Any) -> Insight:
    number = next(_number)
    values: dict[str, Any] = {
        "id": uuid7(),
        "finding_key": f"made:{number}",
        "kind": InsightKind.AUTHORIZATION_RATE_DROP,
        "status": InsightStatus.NEW,
        "severity": Severity.CRITICAL,
        "title": f"Fewer payments are approved ({number})",
        "summary": "The authorization rate is lower than expected.",
        "evidence": [],
        "recommended_actions": [],
        "currency": account.currency,
        "confidence": 0.9,
        "rank": 0.0,
        "created_at": NOON,
        "updated_at": NOON,
    }
    row = Insight(**values | columns, account_id=account.id)
    await _add(place, row)
    return row


async def series(
    place: Place,
    account: Account,
    metric: str = "payments.count",
    *,
    is_measured: bool | None = None,
    **labels: str,
) -> Series:
    """A series with these labels; of a derived metric not measured unless said otherwise."""
    measured = metric not in DERIVED if is_measured is None else is_measured
    row = Series(
        id=uuid7(),
        account_id=account.id,
        number=next(_number) if measured else None,
        metric=metric,
        kind=points.metric(metric).kind,
        labels=labels,
        is_measured=measured,
        fingerprint=fingerprint(metric, tuple(sorted(labels.items())), measured=measured),
        created_at=NOON,
    )
    await _add(place, row)
    return row


async def hours(place: Place, series: Series, *values: float, from_: datetime) -> None:
    """What the series came to in each hour from `from_` on, rolled up."""
    for index, value in enumerate(values):
        await hour(place, series, value, at=from_ + timedelta(hours=index))


async def hour(place: Place, series: Series, value: float, *, at: datetime) -> None:
    """What the series came to in that hour, rolled up, whatever it was before."""
    number = series.number or 0
    shard = number // SHARD
    async with _open(place) as session:
        row = await session.get(Rollup, (series.account_id, steps.HOUR, shard, at))
        before = blocks.decode([row.cells], [shard]) if row else blocks.none()
        count = 0 if series.kind is points.Kind.AMOUNT else int(value)
        cells = merging.merge(merging.concat(merging.replacing(before), _cell(number, value, max(count, 1))))
        row = row or Rollup(account_id=series.account_id, step=steps.HOUR, shard=shard, at=at)
        row.cells = blocks.encode(cells)[0]
        session.add(row)
        account = await session.get_one(Account, series.account_id)
        day = steps.midnight(at, steps.zone(account.time_zone))
        await session.merge(DirtyWindow(account_id=account.id, step=steps.DAY, at=day))


def _cell(number: int, value: float, count: int) -> Rows:
    zero = np.zeros(1, np.int64)
    return Rows(
        zero, np.array([number], np.int32), np.array([value]), zero + count, zero == 0, sketches.none(1)
    )


async def source(place: Place, name: str = "test") -> Source:
    """A sender's source."""
    row = Source(id=uuid7(), scope="operator", name=f"{name} {next(_number)}", created_at=NOON)
    await _add(place, row)
    return row


async def minute_by_minute(place: Place, series: Series, *values: float, from_: datetime) -> None:
    """What one source said of the series in each minute from `from_` on, of which nothing is rolled up."""
    number = (await source(place)).number
    n, begin = len(values), int(from_.timestamp())
    same = np.zeros(n, np.int32)
    columns = Columns(
        accounts=(series.account_id,),
        sources=(number,),
        account=same,
        source=same,
        number=same + (series.number or 0),
        at=begin + 60 * np.arange(n),
        value=np.array(values, float),
        count=same.astype(np.int64),
        mode=same.astype(np.uint8),
        start=same.astype(np.int64),
        time=same.astype(np.int64),
        sketches=sketches.none(n),
    )
    async with _open(place) as session:
        connection = await raw(session)
        await marks.touch_days(connection, columns)
        await minutes.write(connection, columns)
        await marks.soil(connection, columns)


async def watch(place: Place, account: Account, *, until: datetime) -> AccountWatch:
    """The account is judged until then."""
    row = AccountWatch(account_id=account.id, judged_from=until, judged_until=until, state=b"")
    await _add(place, row)
    return row


async def anomaly(place: Place, series: Series, incident: Incident | None = None, **columns: Any) -> Anomaly:
    """An episode that lasts: a rate of 60 % of 1,000 payments where 80 % is expected."""
    values: dict[str, Any] = {
        "id": uuid7(),
        "phase": Phase.CLOSED if columns.get("ended_at") else Phase.FIRING,
        "direction": Direction.DOWN,
        "started_at": NOON,
        "detected_at": NOON + timedelta(minutes=10),
        "observed": 0.6,
        "expected": 0.8,
        "lower": 0.77,
        "upper": 0.83,
        "score": 20.0,
        "sample_size": 1000,
        "detector": "rate-drop",
        "shortfall": 200.0,
        "shortfall_variance": 225.0,
        "cause": series.labels,
    }
    row = Anomaly(
        **values | columns,
        account_id=series.account_id,
        series_id=series.id,
        incident_id=incident.id if incident else None,
    )
    await _add(place, row)
    return row


async def key(
    place: Place,
    *,
    account: Account | None = None,
    partner: Partner | None = None,
    kind: PrincipalKind | None = None,
    scopes: Sequence[str] | None = None,
) -> str:
    """The text of a new key of an account, of a partner, or of `kind` (an operator's by default)."""
    kind = kind or (
        PrincipalKind.MERCHANT if account else PrincipalKind.PARTNER if partner else PrincipalKind.OPERATOR
    )
    holder = access.Holder(
        kind, account_id=account.id if account else None, partner_id=partner.id if partner else None
    )
    async with _open(place) as session:
        _, secret = await access.create_key(
            session, name=f"key {next(_number)}", holder=holder, by="test", at=NOON, scopes=scopes
        )
    return secret


def _principal(kind: PrincipalKind, name: str, scopes: Sequence[str] | None, **fields: Any) -> Principal:
    key_id = uuid7()
    return Principal(
        kind=kind,
        subject=f"key:{key_id}",
        name=name,
        scopes=frozenset(granted(kind, scopes)),
        key_id=key_id,
        **fields,
    )


def operator(*, scopes: Sequence[str] | None = None) -> Principal:
    """A principal without a row; so are the next three. `scopes` None are those of its kind."""
    return _principal(PrincipalKind.OPERATOR, "operator", scopes)


def merchant(account: Account, *below: Account, scopes: Sequence[str] | None = None) -> Principal:
    """The principal of `account`, with the accounts `below` it."""
    ids = tuple(one.id for one in (account, *below))
    return _principal(PrincipalKind.MERCHANT, account.name, scopes, account_id=account.id, account_ids=ids)


def of_partner(partner: Partner, *, scopes: Sequence[str] | None = None) -> Principal:
    return _principal(PrincipalKind.PARTNER, partner.name, scopes, partner_id=partner.id)


def ingest(*, scopes: Sequence[str] | None = None) -> Principal:
    return _principal(PrincipalKind.INGEST, "ingest", scopes)


async def recorded_events(worker_db: Database) -> list[tuple[str, Mapping[str, Any]]]:
    """Names and payloads of all events in the outbox, oldest first."""
    async with worker_db.read() as session:
        rows = await session.execute(select(Event.name, Event.payload).order_by(Event.position))
        return [(name, payload) for name, payload in rows]

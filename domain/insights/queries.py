"""Finds insights, and what is due to be looked at for new ones; the slice's rule of who sees them."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    and_,
    any_,
    exists,
    false,
    func,
    not_,
    or_,
    select,
    true,
    union,
)
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.anomalies.models import AccountWatch, Anomaly
from domain.catalog.models import Dependency, Partner
from domain.core import paging
from domain.core.events import Event
from domain.core.paging import Page, Slice
from domain.core.visibility import ACCOUNT_IDS
from domain.incidents.episodes import Episode
from domain.incidents.models import Incident, IncidentAccount, IncidentPartner, Severity
from domain.insights.models import Insight, InsightKind, InsightNotFound, InsightStatus
from domain.telemetry.models import Series

_RECENT = timedelta(days=1)
# Of the latest facts those about incidents are looked at, whatever times they bear: a replay's are old.
_LATEST_FACTS = 5_000


class InsightOrder(StrEnum):
    CREATED_AT = "CREATED_AT"
    RANK = "RANK"


@dataclass(frozen=True)
class InsightFilter:
    """None does not filter; the fields are joined by AND, a sequence means any of. `created` is half-open."""

    statuses: Sequence[InsightStatus] | None = None
    kinds: Sequence[InsightKind] | None = None
    severities: Sequence[Severity] | None = None
    account_ids: Sequence[UUID] | None = None
    component_ids: Sequence[UUID] | None = None
    incident_ids: Sequence[UUID] | None = None
    created: tuple[datetime, datetime] | None = None

    def conditions(self) -> list[ColumnElement[bool]]:
        columns: list[tuple[SQLColumnExpression[Any], Sequence[Any] | None]] = [
            (Insight.status, self.statuses),
            (Insight.kind, self.kinds),
            (Insight.severity, self.severities),
            (Insight.account_id, self.account_ids),
            (Insight.incident_id, self.incident_ids),
        ]
        found: list[ColumnElement[bool]] = [
            column.in_(values) for column, values in columns if values is not None
        ]
        if self.component_ids is not None:
            wanted = self.component_ids
            found.append(or_(Insight.service_id.in_(wanted), Insight.partner_id.in_(wanted)))
        if self.created is not None:
            start, end = self.created
            found.append(and_(Insight.created_at >= start, Insight.created_at < end))
        return found


def visible(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see every insight, merchants those of their accounts, others none."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Insight.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


async def page(
    session: AsyncSession,
    principal: Principal,
    part: Page,
    *,
    filter: InsightFilter = InsightFilter(),
    order: InsightOrder = InsightOrder.CREATED_AT,
    descending: bool = True,
) -> Slice[Insight]:
    """A page of the insights that the principal may see: newest, or of the highest rank, first."""
    keys: dict[InsightOrder, Any] = {
        InsightOrder.RANK: Insight.rank,
        InsightOrder.CREATED_AT: Insight.created_at,
    }
    return await paging.fetch(
        session,
        select(Insight).where(visible(principal.kind), *filter.conditions()),
        part,
        keys=[keys[order], Insight.id],
        descending=descending,
        binds=principal.binds(),
    )


async def get(
    session: AsyncSession, insight_id: UUID, *, principal: Principal | None = None, lock: bool = False
) -> Insight:
    """The insight as it is now, raising InsightNotFound where it does not exist for the principal.

    Without one, for whom the transaction's scope admits. `lock` holds it until the transaction ends.
    """
    statement = select(Insight).where(Insight.id == insight_id)
    if principal:
        statement = statement.where(visible(principal.kind))
    if lock:
        statement = statement.with_for_update().execution_options(populate_existing=True)
    found = await session.scalar(statement, principal.binds() if principal else {})
    if found is None:
        raise InsightNotFound(insight_id)
    return found


@dataclass(frozen=True)
class Due:
    """An account to be looked at: its incidents, and how far it is judged (None: it sends nothing).

    `stamp` differs whenever something about the incidents, or of the account during them, may have changed.
    """

    account_id: UUID
    judged_until: datetime | None
    incident_ids: list[UUID] = field(default_factory=list)
    stamp: tuple[Any, ...] = ()


async def due(
    session: AsyncSession, at: datetime, *, account_id: UUID | None = None, incident_id: UUID | None = None
) -> list[Due]:
    """Accounts that are judged or have incidents to be told of, those with incidents first.

    With `account_id`, or `incident_id` for those that it has reached, no others.
    """
    wanted = _wanted(account_id, incident_id)
    watched = select(AccountWatch.account_id, AccountWatch.judged_until)
    touching = _touching(at)
    if wanted is not None:
        watched = watched.where(AccountWatch.account_id.in_(wanted))
        touching = touching.where(IncidentAccount.account_id.in_(wanted))
    found = {key: Due(key, until) for key, until in await session.execute(watched)}
    stamps: dict[UUID, list[Any]] = {}
    for key, touched, *stamp in await session.execute(touching):
        one = found.setdefault(key, Due(key, None))
        one.incident_ids.append(touched)
        stamps.setdefault(key, [one.judged_until]).append((touched, *stamp))
    rows = [replace(one, stamp=tuple(stamps.get(one.account_id, ()))) for one in found.values()]
    return sorted(rows, key=lambda one: (not one.incident_ids, one.account_id))


def _wanted(account_id: UUID | None, incident_id: UUID | None) -> Any:
    if account_id is not None:
        return [account_id]
    if incident_id is not None:
        return select(IncidentAccount.account_id).where(IncidentAccount.incident_id == incident_id)
    return None


def _touching(at: datetime) -> Select[Any]:
    """Incidents with each account they reached: live, changed in the last day or lately in the outbox.

    Without those that are over and told so.
    """
    newest = select(func.max(Event.position)).scalar_subquery()
    among = union(
        select(Incident.id).where(Incident.resolved_at.is_(None)),
        select(Incident.id).where(Incident.updated_at >= at - _RECENT),
        select(Event.subject_id).where(
            Event.position > newest - _LATEST_FACTS, Event.name.startswith("incident.", autoescape=True)
        ),
    )
    told = and_(
        Insight.account_id == IncidentAccount.account_id, Insight.incident_id == IncidentAccount.incident_id
    )
    is_told = and_(exists().where(told), ~exists().where(told, Insight.expires_at.is_(None)))
    own = and_(
        Anomaly.account_id == IncidentAccount.account_id, Anomaly.incident_id == IncidentAccount.incident_id
    )
    of_account = select(func.count(), func.count(Anomaly.ended_at)).where(own).correlate(IncidentAccount)
    episodes = of_account.subquery().lateral()
    return (
        select(
            IncidentAccount.account_id,
            Incident.id,
            Incident.updated_at,
            Incident.resolved_at,
            IncidentAccount.updated_at,
            episodes,
        )
        .join(Incident, Incident.id == IncidentAccount.incident_id)
        .join(episodes, true())
        .where(Incident.id.in_(among), not_(and_(Incident.resolved_at.is_not(None), is_told)))
        .order_by(IncidentAccount.account_id, Incident.id)
    )


async def episodes(session: AsyncSession, account_id: UUID, incident_id: UUID) -> list[Episode]:
    """The account's own episodes in an incident."""
    rows = await session.execute(
        select(Anomaly, Series)
        .join(Series, Series.id == Anomaly.series_id)
        .where(Anomaly.account_id == account_id, Anomaly.incident_id == incident_id)
        .order_by(Anomaly.started_at, Anomaly.id)
    )
    return [Episode(anomaly, series) for anomaly, series in rows]


async def depended_on(session: AsyncSession, account_id: UUID, codes: Sequence[str]) -> Partner | None:
    """The partner of one of these codes, if the account depends on it: of others it knows nothing."""
    return await session.scalar(
        select(Partner)
        .join(Dependency, Dependency.partner_id == Partner.id)
        .where(Dependency.account_id == account_id, Partner.code.in_(codes))
        .order_by(Partner.code)
        .limit(1)
    )


async def largest_share(
    session: AsyncSession, account_id: UUID, incident_id: UUID
) -> tuple[Partner, float] | None:
    """The partner of an incident through which most of the account's traffic runs, and its share."""
    rows = await session.execute(
        select(Partner, Dependency.traffic_share)
        .join(IncidentPartner, IncidentPartner.partner_id == Partner.id)
        .join(Dependency, Dependency.partner_id == Partner.id)
        .where(IncidentPartner.incident_id == incident_id, Dependency.account_id == account_id)
        .order_by(Dependency.traffic_share.desc(), Partner.id)
        .limit(1)
    )
    row = rows.first()
    return (row[0], row[1]) if row else None

"""Finds incidents, what was told about them and whom they touch; the slice's rule of who sees them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Select,
    SQLColumnExpression,
    any_,
    exists,
    false,
    func,
    or_,
    select,
    true,
)
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.catalog.models import Partner, Service
from domain.catalog.queries import visible_partners, visible_services
from domain.core import paging
from domain.core.paging import Page, Slice
from domain.core.visibility import ACCOUNT_IDS, PARTNER_ID
from domain.incidents.models import (
    HealthKind,
    Impact,
    Incident,
    IncidentAccount,
    IncidentNotFound,
    IncidentPartner,
    IncidentService,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Severity,
)


@dataclass(frozen=True)
class IncidentFilter:
    """None does not filter; the fields are joined by AND, a sequence means any of. `during` is half-open."""

    is_open: bool | None = None
    statuses: Sequence[IncidentStatus] | None = None
    kinds: Sequence[HealthKind] | None = None
    impacts: Sequence[Impact] | None = None
    severities: Sequence[Severity] | None = None
    origins: Sequence[Origin] | None = None
    account_ids: Sequence[UUID] | None = None
    component_ids: Sequence[UUID] | None = None
    grouping_keys: Sequence[str] | None = None
    during: tuple[datetime, datetime] | None = None
    search: str | None = None

    def conditions(self, kind: PrincipalKind) -> list[ColumnElement[bool]]:
        """What the principal may not see matches nothing here either."""
        columns: list[tuple[SQLColumnExpression[Any], Sequence[Any] | None]] = [
            (Incident.status, self.statuses),
            (Incident.kind, self.kinds),
            (Incident.impact, self.impacts),
            (Incident.severity, self.severities),
            (Incident.origin, self.origins),
            (Incident.grouping_key, self.grouping_keys),
        ]
        found: list[ColumnElement[bool]] = [
            column.in_(values) for column, values in columns if values is not None
        ]
        if self.is_open is not None:
            is_open = Incident.resolved_at.is_(None)
            found.append(is_open if self.is_open else ~is_open)
        if self.account_ids is not None:
            found.append(_touches_accounts(kind, self.account_ids))
        if self.component_ids is not None:
            found.append(_is_about(kind, self.component_ids))
        if self.during is not None:
            start, end = self.during
            found.append(Incident.started_at < end)
            found.append(or_(Incident.resolved_at.is_(None), Incident.resolved_at > start))
        return found + [_mentions(word) for word in (self.search or "").split()]


def visible(kind: PrincipalKind, incident_id: SQLColumnExpression[UUID] = Incident.id) -> ColumnElement[bool]:
    """Operators see every incident, merchants those that reached their accounts, partners those about them.

    `incident_id` is the column that names the incident, its own key by default.
    """
    match kind:
        case PrincipalKind.OPERATOR:
            return true()
        case PrincipalKind.MERCHANT:
            return exists().where(
                IncidentAccount.incident_id == incident_id, IncidentAccount.account_id == any_(ACCOUNT_IDS)
            )
        case PrincipalKind.PARTNER:
            return exists().where(
                IncidentPartner.incident_id == incident_id, IncidentPartner.partner_id == PARTNER_ID
            )
        case PrincipalKind.INGEST:
            return false()


def visible_updates(kind: PrincipalKind) -> ColumnElement[bool]:
    """Who sees an incident sees what was told about it."""
    return visible(kind, IncidentUpdate.incident_id)


def visible_incident_accounts(kind: PrincipalKind) -> ColumnElement[bool]:
    """What an incident means for an account is for that account, those above it and operators."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return IncidentAccount.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


def _touches_accounts(kind: PrincipalKind, account_ids: Sequence[UUID]) -> ColumnElement[bool]:
    return exists().where(
        IncidentAccount.incident_id == Incident.id,
        IncidentAccount.account_id.in_(account_ids),
        visible_incident_accounts(kind),
    )


def _is_about(kind: PrincipalKind, component_ids: Sequence[UUID]) -> ColumnElement[bool]:
    return or_(
        exists().where(
            IncidentPartner.incident_id == Incident.id,
            IncidentPartner.partner_id.in_(component_ids),
            Partner.id == IncidentPartner.partner_id,
            visible_partners(kind),
        ),
        exists().where(
            IncidentService.incident_id == Incident.id,
            IncidentService.service_id.in_(component_ids),
            visible_services(kind),
        ),
    )


def _mentions(word: str) -> ColumnElement[bool]:
    return or_(
        Incident.title.icontains(word, autoescape=True),
        Incident.summary.icontains(word, autoescape=True),
        exists().where(
            IncidentUpdate.incident_id == Incident.id, IncidentUpdate.body.icontains(word, autoescape=True)
        ),
    )


async def find(
    session: AsyncSession,
    principal: Principal,
    page: Page,
    *,
    filter: IncidentFilter = IncidentFilter(),
    descending: bool = True,
) -> Slice[Incident]:
    """Incidents that the principal may see, by the time that they started (latest first by default)."""
    conditions = [visible(principal.kind), *filter.conditions(principal.kind)]
    return await paging.fetch(
        session,
        select(Incident).where(*conditions),
        page,
        keys=[Incident.started_at, Incident.id],
        descending=descending,
        binds=principal.binds(),
    )


async def get(
    session: AsyncSession, incident_id: UUID, *, principal: Principal | None = None, lock: bool = False
) -> Incident:
    """The incident as it is now, raising IncidentNotFound where it does not exist for the principal.

    `lock` holds its row, and so the order of its events, until the transaction ends; others may still
    refer to it.
    """
    statement = select(Incident).where(Incident.id == incident_id)
    if principal:
        statement = statement.where(visible(principal.kind))
    found = await _one(session, statement, lock=lock, principal=principal)
    if found is None:
        raise IncidentNotFound(incident_id)
    return found


async def live(session: AsyncSession, grouping_key: str, *, lock: bool = False) -> Incident | None:
    """The live incident with this grouping key."""
    statement = select(Incident).where(Incident.grouping_key == grouping_key, Incident.resolved_at.is_(None))
    return await _one(session, statement, lock=lock)


async def by_external_id(session: AsyncSession, external_id: str, *, lock: bool = False) -> Incident | None:
    """The incident, live or not, that another system knows by this name."""
    return await _one(session, select(Incident).where(Incident.external_id == external_id), lock=lock)


async def _one(
    session: AsyncSession,
    statement: Select[Incident],
    *,
    lock: bool,
    principal: Principal | None = None,
) -> Incident | None:
    if lock:
        statement = statement.with_for_update(key_share=True).execution_options(populate_existing=True)
    found: Incident | None = await session.scalar(statement, principal.binds() if principal else {})
    return found


async def updates_by_incident(
    session: AsyncSession, incident_ids: Sequence[UUID], page: Page, *, principal: Principal
) -> dict[UUID, Slice[IncidentUpdate]]:
    """The same page of what was told about each incident, oldest first."""
    return await paging.fetch_each(
        session,
        select(IncidentUpdate).where(visible_updates(principal.kind)),
        page,
        parent=IncidentUpdate.incident_id,
        parents=incident_ids,
        keys=[IncidentUpdate.display_at, IncidentUpdate.id],
        binds=principal.binds(),
    )


async def accounts_by_incident(
    session: AsyncSession, incident_ids: Sequence[UUID], page: Page, *, principal: Principal
) -> dict[UUID, Slice[IncidentAccount]]:
    """The same page of the accounts that each incident has reached, largest estimate first."""
    return await paging.fetch_each(
        session,
        select(IncidentAccount).where(visible_incident_accounts(principal.kind)),
        page,
        parent=IncidentAccount.incident_id,
        parents=incident_ids,
        keys=[func.coalesce(IncidentAccount.money_mid, -1), IncidentAccount.account_id],
        descending=True,
        binds=principal.binds(),
    )


async def partners_by_incident(
    session: AsyncSession, incident_ids: Sequence[UUID], *, principal: Principal
) -> Mapping[UUID, Sequence[Partner]]:
    """The partners, of those that the principal may see, that each incident is about, by name."""
    rows = await session.execute(
        select(IncidentPartner.incident_id, Partner)
        .join(Partner, Partner.id == IncidentPartner.partner_id)
        .where(
            IncidentPartner.incident_id.in_(incident_ids),
            visible(principal.kind, IncidentPartner.incident_id),
            visible_partners(principal.kind),
        )
        .order_by(Partner.name, Partner.id),
        principal.binds(),
    )
    found: dict[UUID, list[Partner]] = {incident_id: [] for incident_id in incident_ids}
    for incident_id, partner in rows:
        found[incident_id].append(partner)
    return found


async def services_by_incident(
    session: AsyncSession, incident_ids: Sequence[UUID], *, principal: Principal
) -> Mapping[UUID, Sequence[Service]]:
    """The services that each incident is about, by name."""
    rows = await session.execute(
        select(IncidentService.incident_id, Service)
        .join(Service, Service.id == IncidentService.service_id)
        .where(
            IncidentService.incident_id.in_(incident_ids),
            visible(principal.kind, IncidentService.incident_id),
            visible_services(principal.kind),
        )
        .order_by(Service.name, Service.id),
        principal.binds(),
    )
    found: dict[UUID, list[Service]] = {incident_id: [] for incident_id in incident_ids}
    for incident_id, service in rows:
        found[incident_id].append(service)
    return found


async def latest_update(session: AsyncSession, incident_id: UUID) -> IncidentUpdate | None:
    return await session.scalar(
        select(IncidentUpdate)
        .where(IncidentUpdate.incident_id == incident_id)
        .order_by(IncidentUpdate.display_at.desc(), IncidentUpdate.id.desc())
        .limit(1)
    )

"""The services and partners that an incident is about, and the status that it declares of them."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CursorResult, select, union
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.catalog.models import ComponentStatus, Partner, Service
from domain.core.errors import InvalidInput
from domain.incidents.models import Incident, IncidentPartner, IncidentService, IncidentUpdate

Components = Mapping[UUID, Service | Partner]
Changes = list[dict[str, Any]]


async def check(session: AsyncSession, component_ids: Iterable[UUID], *, principal: Principal | None) -> None:
    """InvalidInput names a component that does not exist for the principal, or is not its to declare.

    Operators and workers declare what they like, partners themselves alone, others nothing.
    """
    for component_id in sorted(set(component_ids)):
        may = principal is None or principal.kind is PrincipalKind.OPERATOR
        may = may or (principal is not None and component_id == principal.partner_id)
        if not may or not await _exists(session, component_id):
            raise InvalidInput(
                f"There is no service or partner {component_id} that you may declare.", path=("components",)
            )


async def _exists(session: AsyncSession, component_id: UUID) -> bool:
    return any([await session.get(table, component_id) is not None for table in (Service, Partner)])


async def _locked(session: AsyncSession, component_ids: Iterable[UUID]) -> Components:
    """In one order, behind the incident's row: so that incidents about the same wait and do not deadlock."""
    wanted = sorted(component_ids)
    services = select(Service).where(Service.id.in_(wanted)).order_by(Service.id)
    partners = select(Partner).where(Partner.id.in_(wanted)).order_by(Partner.id)
    fresh = {"populate_existing": True}
    found: dict[UUID, Service | Partner] = {}
    for service in await session.scalars(services.with_for_update(key_share=True), execution_options=fresh):
        found[service.id] = service
    for partner in await session.scalars(partners.with_for_update(key_share=True), execution_options=fresh):
        found[partner.id] = partner
    return found


async def link(
    session: AsyncSession, incident_id: UUID, *, partners: Iterable[UUID] = (), services: Iterable[UUID] = ()
) -> bool:
    """Note what the incident is about; whether any of it is new."""
    rows = [
        insert(IncidentPartner).values(incident_id=incident_id, partner_id=one) for one in sorted(partners)
    ]
    rows += [
        insert(IncidentService).values(incident_id=incident_id, service_id=one) for one in sorted(services)
    ]
    added = 0
    for row in rows:
        # Without a conflict target: the writer need not be allowed to read the row before it stands.
        added += await inserted(session, row.on_conflict_do_nothing())
    return added > 0


async def inserted(session: AsyncSession, statement: Insert) -> int:
    """How many rows the statement made."""
    result = await session.execute(statement)
    assert isinstance(result, CursorResult)
    return int(result.rowcount)


async def split(session: AsyncSession, component_ids: Iterable[UUID]) -> tuple[list[UUID], list[UUID]]:
    """Which of them are partners, and which services."""
    wanted = list(component_ids)
    partners = await session.scalars(select(Partner.id).where(Partner.id.in_(wanted)))
    services = await session.scalars(select(Service.id).where(Service.id.in_(wanted)))
    return list(partners), list(services)


async def declare(
    session: AsyncSession, incident_id: UUID, statuses: Mapping[UUID, ComponentStatus], *, at: datetime
) -> Changes:
    """Make the incident about these components, with these statuses; what changed, as an update keeps it."""
    partners, services = await split(session, statuses)
    await link(session, incident_id, partners=partners, services=services)
    locked = await _locked(session, statuses)
    return [_declare(component, statuses[key], at=at) for key, component in locked.items()]


def _declare(component: Service | Partner, status: ComponentStatus, *, at: datetime) -> dict[str, Any]:
    change = {"id": str(component.id), "from": component.status, "to": status}
    component.declare(status, at=at)
    return change


async def release(session: AsyncSession, incident_id: UUID, *, at: datetime) -> Changes:
    """What the incident declared is operational again, or as the worst that other live incidents declare."""
    own = await session.scalars(
        select(IncidentUpdate.affected_components).where(IncidentUpdate.incident_id == incident_id)
    )
    component_ids = {UUID(change["id"]) for changes in own for change in changes}
    components = await _locked(session, component_ids)
    held = await _held(session, components, besides=incident_id)
    changes: Changes = []
    for key, component in components.items():
        status = held.get(key, ComponentStatus.OPERATIONAL)
        if component.status is not status or component.declared_status is not status:
            changes.append(_declare(component, status, at=at))
    return changes


async def _held(
    session: AsyncSession, components: Components, *, besides: UUID
) -> Mapping[UUID, ComponentStatus]:
    """The worst that live incidents other than `besides` last declared of each component."""
    about = union(
        select(IncidentPartner.incident_id).where(IncidentPartner.partner_id.in_(components)),
        select(IncidentService.incident_id).where(IncidentService.service_id.in_(components)),
    )
    rows = await session.execute(
        select(Incident.id, IncidentUpdate.affected_components)
        .join(IncidentUpdate, IncidentUpdate.incident_id == Incident.id)
        .where(Incident.id.in_(about), Incident.id != besides, Incident.resolved_at.is_(None))
        .order_by(IncidentUpdate.display_at, IncidentUpdate.id)
    )
    last: dict[tuple[UUID, UUID], ComponentStatus] = {}
    for other_id, changes in rows:
        last |= {(other_id, UUID(change["id"])): ComponentStatus(change["to"]) for change in changes}
    worst: dict[UUID, ComponentStatus] = {}
    for (_, key), status in last.items():
        if key in components:
            worst[key] = max(status, worst.get(key, status), key=lambda one: one.badness)
    return worst

"""Opens, tells, and closes incidents.

Every change holds the incident's row until its transaction ends, so that the events of one incident
commit in the order of their positions; each records what happened in the same transaction.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, NotRequired, TypedDict, Unpack
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.principal import Principal
from domain.catalog.models import ComponentStatus
from domain.core.errors import DomainError, InvalidInput
from domain.core.ids import uuid7
from domain.core.texts import text_flaw
from domain.incidents import components, feed, grouping, queries, updates
from domain.incidents.models import (
    Actor,
    ActorKind,
    HealthKind,
    Impact,
    Incident,
    IncidentClosed,
    IncidentExists,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Resolution,
    Severity,
)
from domain.incidents.reach import SYSTEM, IncidentImpact, reach, spread, unspread
from domain.incidents.updates import Change

__all__ = [
    "SYSTEM",
    "IncidentImpact",
    "acknowledge",
    "declare",
    "open",
    "post_update",
    "reach",
    "reopen",
    "resolve",
    "spread",
    "unspread",
]

By = Principal | Actor
"""Who changes an incident: a principal, to whom it must be visible, or what acts for the system."""

_TRIES = 3
_NOBODY: Mapping[UUID, IncidentImpact] = MappingProxyType({})
_NOTHING: Mapping[UUID, ComponentStatus] = MappingProxyType({})


class Declaration(TypedDict):
    """What a person says of a new incident; `started_at` None is now."""

    title: str
    impact: Impact
    kind: NotRequired[HealthKind]
    status: NotRequired[IncidentStatus]
    severity: NotRequired[Severity]
    started_at: NotRequired[datetime | None]
    next_update_by: NotRequired[datetime | None]
    is_public: NotRequired[bool]


class NewIncident(Declaration):
    """The columns of an incident as it begins; who declares one gives its body, not its summary."""

    summary: str
    origin: Origin
    grouping_key: str
    external_id: NotRequired[str | None]
    source_url: NotRequired[str | None]
    detected_at: NotRequired[datetime | None]
    scheduled_for: NotRequired[datetime | None]
    scheduled_until: NotRequired[datetime | None]
    declared_by_id: NotRequired[UUID | None]


async def open(
    session: AsyncSession,
    *,
    actor: Actor,
    at: datetime,
    partners: Sequence[UUID] = (),
    services: Sequence[UUID] = (),
    accounts: Mapping[UUID, IncidentImpact] = _NOBODY,
    body: str | None = None,
    **fields: Unpack[NewIncident],
) -> tuple[Incident, bool]:
    """The live incident of this grouping key, and whether it was made now; `body` is its first update.

    Who races for a key waits for the winner and joins its incident, adding its components and
    accounts. One that another system knows by `external_id` is returned as it is, live or not.
    """
    if grouping.is_of_account(fields["grouping_key"]) and (partners or services):
        raise ValueError("What is one account's alone is not about a partner or service.")
    incident, created = await _make(session, fields, partners=partners, services=services, at=at)
    if created:
        update = await updates.add(session, incident, body=body, actor=actor, at=at) if body else None
        await feed.record(session, incident, "incident.opened", actor=actor, at=at, update=update)
    elif incident.resolved_at is None and await components.link(
        session, incident.id, partners=partners, services=services
    ):
        await feed.record(session, incident, "incident.updated", actor=actor, at=at)
    for account_id in sorted(accounts):
        await reach(session, incident.id, account_id, accounts[account_id], at=at, actor=actor)
    return incident, created


async def declare(
    session: AsyncSession,
    *,
    actor: By,
    at: datetime,
    body: str,
    statuses: Mapping[UUID, ComponentStatus],
    grouping_key: str | None = None,
    **fields: Unpack[Declaration],
) -> Incident:
    """Open an incident about components on a person's word, and declare their statuses.

    Raises IncidentExists with the live one of the same grouping key, InvalidInput for components
    that the principal may not declare.
    """
    _check_declaration(fields, grouping_key, at=at)
    updates.check_body(body)
    await components.check(session, statuses, principal=_principal(actor))
    kind = fields.get("kind", HealthKind.COMPONENT_STATUS)
    key = grouping_key or grouping.declared(kind, statuses)
    new: NewIncident = {**fields, "summary": body, "origin": Origin.DECLARED, "grouping_key": key}  # type: ignore[typeddict-item]  # the keys that are not required stay away
    if (principal := _principal(actor)) is not None:
        new["declared_by_id"] = principal.partner_id
    partners, services = await components.split(session, statuses)
    incident, created = await _make(session, new, partners=partners, services=services, at=at)
    if not created:
        raise IncidentExists(_as_it_is(session, incident))
    changes = await components.declare(session, incident.id, statuses, at=at)
    who = _actor(actor)
    update = await updates.add(session, incident, body=body, actor=who, at=at, changes=changes)
    await feed.record(session, incident, "incident.opened", actor=who, at=at, update=update)
    return incident


async def post_update(
    session: AsyncSession,
    incident_id: UUID,
    *,
    body: str,
    actor: By,
    at: datetime,
    statuses: Mapping[UUID, ComponentStatus] = _NOTHING,
    **change: Unpack[Change],
) -> IncidentUpdate:
    """Tell something about an incident; a final status also resolves it, POSTMORTEM follows a resolution.

    An update that is known by its `external_id` is amended where it differs, and otherwise left as
    it is. One that is older than the newest changes nothing of the incident. Raises
    IncidentNotFound, IncidentClosed, InvalidInput.
    """
    updates.check_body(body)
    incident = await queries.get(session, incident_id, principal=_principal(actor), lock=True)
    known = await updates.by_external_id(session, incident_id, change.get("external_id"))
    if known:
        if updates.amend(known, body=body, change=change, at=at):
            await _record(session, incident, "incident.updated", actor=actor, at=at, update=known)
        return known
    if (incident.resolved_at is not None) is not (change.get("status") is IncidentStatus.POSTMORTEM):
        raise _wrong_order(_as_it_is(session, incident))
    await components.check(session, statuses, principal=_principal(actor))
    changes = await components.declare(session, incident_id, statuses, at=at) if statuses else []
    display_at, name = change.get("display_at") or at, "incident.updated"
    latest = await queries.latest_update(session, incident_id)
    if latest is None or latest.display_at <= display_at:
        name = updates.apply(incident, body=body, change=change, at=at)
        if incident.status.is_final and incident.resolved_at is None:
            name = "incident.resolved"
            changes += await _close(session, incident, Resolution.DECLARED, resolved_at=display_at, at=at)
    update = await updates.add(
        session, incident, body=body, actor=_actor(actor), at=at, display_at=display_at, changes=changes,
        status=change.get("status") or incident.status, external_id=change.get("external_id"),
    )  # fmt: skip
    await _record(session, incident, name, actor=actor, at=at, update=update)
    return update


async def acknowledge(session: AsyncSession, incident_id: UUID, *, actor: By, at: datetime) -> Incident:
    """Record that someone has taken charge of a live incident; whoever did so first stays."""
    incident = await queries.get(session, incident_id, principal=_principal(actor), lock=True)
    if incident.resolved_at is not None:
        raise IncidentClosed(_as_it_is(session, incident))
    if incident.acknowledged_at is None:
        incident.acknowledged_by, incident.acknowledged_at = _actor(actor).name, at
        await _record(session, incident, "incident.acknowledged", actor=actor, at=at)
    return incident


async def resolve(
    session: AsyncSession,
    incident_id: UUID,
    *,
    resolution: Resolution,
    actor: By,
    at: datetime,
    body: str | None = None,
    resolved_at: datetime | None = None,
) -> Incident:
    """End an incident, as of `resolved_at` (None: `at`); one that is resolved stays as it is.

    What it declared of components is operational again unless another live incident holds them.
    """
    incident = await queries.get(session, incident_id, principal=_principal(actor), lock=True)
    if incident.resolved_at is not None:
        return incident
    ended_at = resolved_at or at
    if ended_at < incident.started_at or (isinstance(actor, Principal) and ended_at > at):
        raise InvalidInput("An incident ends after it began and not in the future.", path=("resolvedAt",))
    planned = incident.kind is HealthKind.SCHEDULED_MAINTENANCE
    incident.status = IncidentStatus.COMPLETED if planned else IncidentStatus.RESOLVED
    changes = await _close(session, incident, resolution, resolved_at=ended_at, at=at)
    update = None
    if body is not None:
        updates.check_body(body)
        update = await updates.add(
            session, incident, body=body, actor=_actor(actor), at=at, display_at=ended_at, changes=changes
        )
        incident.summary = body
    await _record(session, incident, "incident.resolved", actor=actor, at=at, update=update)
    return incident


async def reopen(
    session: AsyncSession,
    incident_id: UUID,
    *,
    actor: By,
    at: datetime,
    within: timedelta,
    status: IncidentStatus = IncidentStatus.INVESTIGATING,
) -> Incident:
    """Go on with an incident that was resolved at most `within` before `at`; a live one stays as it is.

    Raises IncidentClosed when it was resolved longer ago, IncidentExists when another incident has
    taken its grouping key since.
    """
    incident = await queries.get(session, incident_id, principal=_principal(actor), lock=True)
    if incident.resolved_at is None:
        return incident
    if at - incident.resolved_at > within:
        raise IncidentClosed(_as_it_is(session, incident))
    try:
        async with session.begin_nested():
            incident.status, incident.resolved_at, incident.resolution = status, None, None
            incident.monitoring_at = at if status is IncidentStatus.MONITORING else None
            await session.flush()
    except IntegrityError as error:
        await session.refresh(incident)  # what was rolled back is unknown again
        successor = await queries.live(session, incident.grouping_key)
        raise IncidentExists(_as_it_is(session, successor) if successor else None) from error
    await _record(session, incident, "incident.reopened", actor=actor, at=at)
    return incident


async def _make(
    session: AsyncSession,
    fields: NewIncident,
    *,
    partners: Sequence[UUID],
    services: Sequence[UUID],
    at: datetime,
) -> tuple[Incident, bool]:
    """A new incident, or the one that stands in its way, locked; IncidentExists when that is out of sight."""
    incident_id = uuid7()
    values: dict[str, Any] = {
        "kind": HealthKind.COMPONENT_STATUS,
        "status": IncidentStatus.INVESTIGATING,
        "severity": Severity.CRITICAL,
        "is_public": False,
        "started_at": at,
        **{name: value for name, value in fields.items() if value is not None},
        "id": incident_id,
        "created_at": at,
        "updated_at": at,
    }
    for _ in range(_TRIES):
        # Without a conflict target: a partner may not read the row before it is linked to it.
        if await components.inserted(session, insert(Incident).values(values).on_conflict_do_nothing()):
            await components.link(session, incident_id, partners=partners, services=services)
            return (await session.scalars(select(Incident).where(Incident.id == incident_id))).one(), True
        if found := await _existing(session, fields):
            return found, False
    raise IncidentExists(None)


async def _existing(session: AsyncSession, fields: NewIncident) -> Incident | None:
    """None when it was resolved meanwhile, or the transaction's scope may not see it."""
    found = await queries.live(session, fields["grouping_key"], lock=True)
    external_id = fields.get("external_id")
    if found or external_id is None:
        return found
    return await queries.by_external_id(session, external_id, lock=True)


async def _close(
    session: AsyncSession, incident: Incident, resolution: Resolution, *, resolved_at: datetime, at: datetime
) -> components.Changes:
    incident.resolved_at, incident.resolution, incident.next_update_by = resolved_at, resolution, None
    return await components.release(session, incident.id, at=at)


async def _record(
    session: AsyncSession,
    incident: Incident,
    name: str,
    *,
    actor: By,
    at: datetime,
    update: IncidentUpdate | None = None,
) -> None:
    incident.updated_at = at
    await session.flush()
    await feed.record(session, incident, name, actor=_actor(actor), at=at, update=update)


def _check_declaration(fields: Declaration, grouping_key: str | None, *, at: datetime) -> None:
    if flaw := text_flaw(fields["title"]):
        raise InvalidInput(f"A title {flaw}.", path=("title",))
    if grouping_key is not None and (flaw := text_flaw(grouping_key)):
        raise InvalidInput(f"A grouping key {flaw}.", path=("groupingKey",))
    if grouping_key is not None and grouping.is_ours(grouping_key):
        raise InvalidInput("A grouping key does not begin as those made here do.", path=("groupingKey",))
    if fields.get("status", IncidentStatus.INVESTIGATING).is_final:
        raise InvalidInput("An incident does not begin with its end.", path=("status",))
    if (fields.get("started_at") or at) > at:
        raise InvalidInput("An incident that is declared has begun.", path=("startedAt",))


def _wrong_order(incident: Incident) -> DomainError:
    """A resolved incident takes nothing but a postmortem, a live one everything else."""
    if incident.resolved_at is None:
        return InvalidInput("A postmortem follows a resolution.", path=("status",))
    return IncidentClosed(incident)


def _as_it_is(session: AsyncSession, incident: Incident) -> Incident:
    """For a refusal, which outlives the transaction: a rollback would leave nothing to read in it."""
    session.expunge(incident)
    return incident


def _principal(actor: By) -> Principal | None:
    return actor if isinstance(actor, Principal) else None


def _actor(actor: By) -> Actor:
    return Actor(ActorKind.API_KEY, actor.name) if isinstance(actor, Principal) else actor

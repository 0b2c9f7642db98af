"""One snapshot of a partner's page as incidents here; the same page twice changes nothing."""

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Partner
from domain.incidents import feed, grouping, queries, service, updates
from domain.incidents.models import (
    Actor,
    ActorKind,
    HealthKind,
    Impact,
    Incident,
    IncidentPartner,
    IncidentStatus,
    Origin,
    Resolution,
    Severity,
)
from domain.statuspages import snapshot
from domain.statuspages.snapshot import PageIncident, PageUpdate, Summary

log = logging.getLogger(__name__)
_ANY_TIME = timedelta(days=36_500)


async def apply(
    session: AsyncSession,
    partner: Partner,
    summary: Summary,
    *,
    previous: Summary | None,
    observed_at: datetime,
) -> None:
    """Bring the partner's status and incidents to what its page said at `observed_at`.

    Live incidents that the page no longer lists are over, which is inferred and marked so. What is as
    it was in `previous`, the snapshot applied last, is left alone.
    """
    actor = Actor(ActorKind.STATUS_PAGE, summary.page.name)
    listed = {_key(partner, one.id): one for one in summary.all}
    known = {} if previous is None else {_key(partner, one.id): one for one in previous.all}
    changed = {key: one for key, one in listed.items() if known.get(key) != one}
    for key, one in sorted(changed.items(), key=lambda item: (item[1].created_at, item[0])):
        planned = one in summary.scheduled_maintenances
        incident = await _find_or_open(
            session, partner, key, one, planned=planned, actor=actor, at=observed_at
        )
        await _bring_up_to_date(session, incident, one, before=known.get(key), actor=actor, at=observed_at)
    if previous is None or known.keys() - listed.keys():
        await _resolve_unlisted(session, partner, listed, actor=actor, at=observed_at)
    # Behind the incidents' rows, as all who declare a component lock it.
    await session.flush()
    await session.refresh(partner, with_for_update={"key_share": True})
    partner.declare(summary.worst, at=observed_at)


def _key(partner: Partner, page_id: str) -> str:
    """Of one partner alone: a page's ids are its own to choose, and a code may hold a colon."""
    code = partner.code.replace("%", "%25").replace(":", "%3A")
    return f"{code}:{page_id}"


async def _find_or_open(
    session: AsyncSession,
    partner: Partner,
    key: str,
    one: PageIncident,
    *,
    planned: bool,
    actor: Actor,
    at: datetime,
) -> Incident:
    impact = snapshot.impact(one.impact)
    severe = impact in (Impact.MAJOR, Impact.CRITICAL)
    incident, _ = await service.open(
        session,
        kind=HealthKind.SCHEDULED_MAINTENANCE if planned else HealthKind.COMPONENT_STATUS,
        title=one.name,
        summary=one.name,
        status=_first_status(one),
        impact=impact,
        severity=Severity.CRITICAL if severe else Severity.NON_CRITICAL,
        origin=Origin.STATUS_PAGE,
        grouping_key=grouping.of_status_page(partner.id, one.id),
        external_id=key,
        source_url=one.shortlink,
        is_public=True,
        started_at=one.begun_at,
        detected_at=None if planned else at,
        scheduled_for=one.scheduled_for,
        scheduled_until=one.scheduled_until,
        partners=[partner.id],
        actor=actor,
        at=at,
    )
    return incident


def _first_status(one: PageIncident) -> IncidentStatus:
    """The status of its first update, so that the later ones are steps; final ones come as updates."""
    first = min(one.incident_updates, key=_order, default=None)
    status = snapshot.status(first.status if first else one.status)
    if not status.is_final:
        return status
    return IncidentStatus.IN_PROGRESS if one.scheduled_for else IncidentStatus.INVESTIGATING


def _order(update: PageUpdate) -> tuple[bool, datetime, str]:
    """By time, but a postmortem after all else, also after a resolution that was dated later."""
    is_postmortem = snapshot.status(update.status) is IncidentStatus.POSTMORTEM
    return is_postmortem, update.display_at or update.created_at, update.id


async def _bring_up_to_date(
    session: AsyncSession,
    incident: Incident,
    one: PageIncident,
    *,
    before: PageIncident | None,
    actor: Actor,
    at: datetime,
) -> None:
    """Tell what is new since `before`, how the page listed it last; None tells all, which is safe."""
    told = before.incident_updates if before else []
    if incident.resolved_at is not None and not snapshot.status(one.status).is_final:
        await service.reopen(session, incident.id, actor=actor, at=at, within=_ANY_TIME)
    for update in sorted((new for new in one.incident_updates if new not in told), key=_order):
        if snapshot.status(update.status) is IncidentStatus.POSTMORTEM:
            await _end(session, incident, one, actor=actor, at=at)
        await _tell(session, incident, update, actor=actor, at=at)
    await _revise(session, incident, one, actor=actor, at=at)
    if snapshot.status(one.status).is_final:
        await _end(session, incident, one, actor=actor, at=at)


async def _end(
    session: AsyncSession, incident: Incident, one: PageIncident, *, actor: Actor, at: datetime
) -> None:
    await service.resolve(
        session,
        incident.id,
        resolution=Resolution.DECLARED,
        actor=actor,
        at=at,
        resolved_at=max(one.resolved_at or at, incident.started_at),
    )


async def _tell(
    session: AsyncSession, incident: Incident, update: PageUpdate, *, actor: Actor, at: datetime
) -> None:
    """Post or amend one update; its text is the incident's summary while it is the newest."""
    status = snapshot.status(update.status)
    is_late = incident.resolved_at is not None and status is not IncidentStatus.POSTMORTEM
    if is_late and not await updates.by_external_id(session, incident.id, update.id):
        log.warning("An update of %s came after its end and is left out.", incident.external_id)
        return
    await service.post_update(
        session,
        incident.id,
        body=update.body.strip()[: updates.MAX_BODY] or "(no text)",
        actor=actor,
        at=at,
        status=status,
        display_at=update.display_at or update.created_at,
        external_id=update.id,
    )


async def _revise(
    session: AsyncSession, incident: Incident, one: PageIncident, *, actor: Actor, at: datetime
) -> None:
    """Take over a changed name or impact; whoever follows the incident is told."""
    row = await queries.get(session, incident.id, lock=True)
    impact = snapshot.impact(one.impact)
    if (row.title, row.impact) == (one.name, impact):
        return
    name = "incident.updated" if row.impact is impact else "incident.impact_changed"
    row.title, row.impact, row.updated_at = one.name, impact, at
    await session.flush()
    await feed.record(session, row, name, actor=actor, at=at)


async def _resolve_unlisted(
    session: AsyncSession,
    partner: Partner,
    listed: Mapping[str, PageIncident],
    *,
    actor: Actor,
    at: datetime,
) -> None:
    live = await session.scalars(
        select(Incident)
        .join(IncidentPartner, IncidentPartner.incident_id == Incident.id)
        .where(
            IncidentPartner.partner_id == partner.id,
            Incident.origin == Origin.STATUS_PAGE,
            Incident.resolved_at.is_(None),
        )
        .order_by(Incident.started_at, Incident.id)
    )
    for incident in live.all():
        if incident.external_id not in listed:
            await service.resolve(
                session,
                incident.id,
                resolution=Resolution.INFERRED,
                actor=actor,
                at=at,
                resolved_at=max(at, incident.started_at),
            )

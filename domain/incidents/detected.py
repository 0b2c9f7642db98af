"""Follows the detectors' episodes: opens, joins and resolves incidents, in the order of event time.

The one state machine is the episode's; an incident lasts as long as an episode that belongs to it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import TypeAlias
from uuid import UUID

from sqlalchemy import Select, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies.models import Anomaly
from domain.catalog.models import Account, Partner
from domain.incidents import feed, grouping, queries, service, wording
from domain.incidents.episodes import KINDS, Episode, impact_of, meaning, severity_of
from domain.incidents.models import (
    Actor,
    ActorKind,
    Incident,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Resolution,
)
from domain.telemetry.models import Series

DETECTOR = Actor(ActorKind.DETECTOR, "Vitals")


_Change: TypeAlias = tuple[datetime, int, Episode]
_OPENS, _CLOSES = 0, 1


async def follow(session: AsyncSession, account_id: UUID, *, at: datetime) -> None:
    """Bring the account's incidents to where its episodes are. Idempotent; one at a time for an account.

    Needs the workers' sight: a partner's incident is what several accounts see of it.
    """
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"incidents:{account_id}"))))
    account = await session.get_one(Account, account_id)
    episodes = await _unsettled(session, account_id)
    for when, what, episode in sorted(_changes(episodes), key=_order):
        if what == _OPENS:
            await _join(session, account, episode, episodes)
            await _involve_partner(session, account, episode)
        else:
            await _tell_impact(session, account, episode, episodes, at=when)
            await _settle(session, _incident_of(episode), at=when)
            await _settle_partner(session, episode, at=when)
    for episode in {_incident_of(one): one for one in episodes}.values():
        await _tell_impact(session, account, episode, episodes, at=episode.anomaly.detected_at)


async def unsettled_accounts(session: AsyncSession) -> Sequence[UUID]:
    """The accounts that have episodes which no incident follows, or live incidents of their episodes.

    Where something began or ended, first; the others in no order, so that each has its turn when there
    are too many for one time.
    """
    changed = or_(Anomaly.incident_id.is_(None), Anomaly.ended_at.is_not(None))
    rows = await session.scalars(
        select(Anomaly.account_id)
        .outerjoin(Incident, Incident.id == Anomaly.incident_id)
        .where(or_(Anomaly.incident_id.is_(None), Incident.resolved_at.is_(None)))
        .group_by(Anomaly.account_id)
        .order_by(func.bool_or(changed).desc(), func.random())
    )
    return rows.all()


async def _unsettled(session: AsyncSession, account_id: UUID) -> list[Episode]:
    rows = await session.execute(
        select(Anomaly, Series)
        .join(Series, Series.id == Anomaly.series_id)
        .outerjoin(Incident, Incident.id == Anomaly.incident_id)
        .where(
            Anomaly.account_id == account_id,
            or_(Anomaly.incident_id.is_(None), Incident.resolved_at.is_(None)),
        )
        .order_by(Anomaly.detected_at, Anomaly.id)
    )
    return [Episode(anomaly, series) for anomaly, series in rows]


def _changes(episodes: Sequence[Episode]) -> list[_Change]:
    changes: list[_Change] = []
    for one in episodes:
        if one.anomaly.incident_id is None:
            changes.append((one.anomaly.detected_at, _OPENS, one))
        if one.anomaly.ended_at is not None:
            changes.append((one.anomaly.ended_at, _CLOSES, one))
    return changes


def _order(change: _Change) -> tuple[object, ...]:
    """By time, openings first; of one minute what names a partner comes first, since it says most."""
    when, what, episode = change
    series = episode.series
    return when, what, episode.partner_code is None, series.metric, sorted(series.labels.items())


async def _join(
    session: AsyncSession, account: Account, episode: Episode, episodes: Sequence[Episode]
) -> None:
    """Put the episode into the account's live incident of its kind, or a partner's, or open one."""
    detected_at = episode.anomaly.detected_at
    lasting = [
        other.anomaly.incident_id
        for other in episodes
        if other.anomaly.incident_id is not None
        and other.kind is episode.kind
        and (other.anomaly.ended_at is None or other.anomaly.ended_at > detected_at)
    ]
    live = [one for one in lasting if (await session.get_one(Incident, one)).resolved_at is None]
    episode.anomaly.incident_id = live[0] if live else await _open(session, account, episode)
    await session.flush()


async def _open(session: AsyncSession, account: Account, episode: Episode) -> UUID:
    partner = await _shared_partner(session, account, episode)
    return await _open_about(session, account, episode, partner)


async def _open_about(
    session: AsyncSession, account: Account, episode: Episode, partner: Partner | None
) -> UUID:
    """The live incident of the partner, or without one of the account; opened if there is none."""
    anomaly, kind = episode.anomaly, episode.kind
    impact = impact_of(episode.depth)
    key = grouping.of_partner(partner.id, kind) if partner else grouping.of_account(account.id, kind)
    incident, _ = await service.open(
        session,
        kind=kind,
        title=wording.title(kind, partner),
        summary=wording.summary(kind, partner),
        body=wording.summary(kind, partner),
        impact=impact,
        severity=severity_of(impact),
        status=IncidentStatus.INVESTIGATING,
        origin=Origin.DETECTED,
        grouping_key=key,
        started_at=anomaly.started_at,
        detected_at=anomaly.detected_at,
        partners=[partner.id] if partner else [],
        accounts={account.id: await meaning(session, account, [episode])},
        actor=DETECTOR,
        at=anomaly.detected_at,
    )
    return incident.id


async def _involve_partner(session: AsyncSession, account: Account, episode: Episode) -> None:
    """Tell the partner too, in an incident of its own, once a second account fails at it in the same way.

    The accounts' own incidents, opened before that was known, go on beside it.
    """
    partner = await _shared_partner(session, account, episode)
    if partner is not None:
        own = await session.get_one(Incident, _incident_of(episode))
        if own.grouping_key != grouping.of_partner(partner.id, episode.kind):
            await _open_about(session, account, episode, partner)


async def _shared_partner(session: AsyncSession, account: Account, episode: Episode) -> Partner | None:
    """The partner, when another account's payments through it are failing in the same way right now."""
    anomaly = episode.anomaly
    others = _failing_alike(episode).where(
        Anomaly.account_id != account.id,
        Anomaly.started_at <= anomaly.detected_at,
        or_(Anomaly.ended_at.is_(None), Anomaly.ended_at > anomaly.started_at),
    )
    if episode.partner_code is None or await session.scalar(others.limit(1)) is None:
        return None
    return await _partner(session, episode)


def _failing_alike(episode: Episode) -> Select[UUID]:
    """The anomalies, of any account and time, of the same kind that the same partner causes."""
    metrics = [metric for metric, kind in KINDS.items() if kind is episode.kind]
    return (
        select(Anomaly.id)
        .join(Series, Series.id == Anomaly.series_id)
        .where(Series.metric.in_(metrics), Anomaly.cause == {"partner": episode.partner_code})
    )


async def _partner(session: AsyncSession, episode: Episode) -> Partner | None:
    return await session.scalar(select(Partner).where(Partner.code == episode.partner_code))


async def _settle(session: AsyncSession, incident_id: UUID, *, at: datetime) -> None:
    """Resolve the incident when what it is about has ended by `at` for every account.

    For an account that is its total, where that was hit: a slice too small to be sure that it is over
    holds nothing open. An account whose total was not hit is over with the last of its slices. An
    episode that another account had only later holds it open too: it belongs to no other incident.
    """
    rows = await session.execute(
        select(Anomaly, Series)
        .join(Series, Series.id == Anomaly.series_id)
        .where(Anomaly.incident_id == incident_id)
    )
    episodes = [Episode(anomaly, series) for anomaly, series in rows]
    with_total = {one.anomaly.account_id for one in episodes if not one.series.labels}
    telling = [
        one.anomaly for one in episodes if not one.series.labels or one.anomaly.account_id not in with_total
    ]
    over = all(one.ended_at is not None and one.ended_at <= at for one in telling)
    if over:
        await _resolve(session, incident_id, at=at)


async def _resolve(session: AsyncSession, incident_id: UUID, *, at: datetime) -> None:
    """Say that it is over, once for one end: what a person has reopened since stays open."""
    if not await _is_told_over(session, incident_id, at=at):
        await service.resolve(
            session,
            incident_id,
            resolution=Resolution.OBSERVED,
            body=wording.RECOVERED,
            actor=DETECTOR,
            at=at,
        )


async def _settle_partner(session: AsyncSession, episode: Episode, *, at: datetime) -> None:
    """Resolve the partner's own incident when no account's payments through it fail any more by `at`."""
    partner = await _partner(session, episode) if episode.partner_code else None
    if partner is None:
        return
    incident = await queries.live(session, grouping.of_partner(partner.id, episode.kind), lock=True)
    if incident is None or incident.id == _incident_of(episode) or incident.started_at > at:
        return
    lasting = _failing_alike(episode).where(or_(Anomaly.ended_at.is_(None), Anomaly.ended_at > at))
    attached = select(Anomaly.id).where(
        Anomaly.incident_id == incident.id, or_(Anomaly.ended_at.is_(None), Anomaly.ended_at > at)
    )
    if await session.scalar(lasting.union_all(attached).limit(1)) is None:
        await _resolve(session, incident.id, at=at)


async def _is_told_over(session: AsyncSession, incident_id: UUID, *, at: datetime) -> bool:
    """Whether we resolved it for this end, or a later one, before."""
    told = exists().where(
        IncidentUpdate.incident_id == incident_id,
        IncidentUpdate.author_kind == DETECTOR.kind,
        IncidentUpdate.status == IncidentStatus.RESOLVED,
        IncidentUpdate.display_at >= at,
    )
    return bool(await session.scalar(select(told)))


async def _grade(session: AsyncSession, incident_id: UUID, *, at: datetime) -> None:
    """Let the incident be as bad as the worst of its episodes, as they are now known."""
    rows = await session.execute(
        select(Anomaly, Series)
        .join(Series, Series.id == Anomaly.series_id)
        .where(Anomaly.incident_id == incident_id)
    )
    impact = impact_of(max(Episode(anomaly, series).depth for anomaly, series in rows))
    incident = await queries.get(session, incident_id, lock=True)
    if incident.impact is not impact and incident.resolved_at is None:
        incident.impact, incident.severity, incident.updated_at = impact, severity_of(impact), at
        await session.flush()
        await feed.record(session, incident, "incident.impact_changed", actor=DETECTOR, at=at)


async def _tell_impact(
    session: AsyncSession,
    account: Account,
    episode: Episode,
    episodes: Sequence[Episode],
    *,
    at: datetime,
) -> None:
    """Tell the account what the episode's incident means for it while it lasts, by all its episodes."""
    incident = await session.get_one(Incident, _incident_of(episode))
    if incident.resolved_at is not None:
        return
    await _grade(session, incident.id, at=at)
    own = [one for one in episodes if one.anomaly.incident_id == incident.id]
    told = await meaning(session, account, own)
    await service.reach(session, incident.id, account.id, told, at=at, actor=DETECTOR)


def _incident_of(episode: Episode) -> UUID:
    incident_id = episode.anomaly.incident_id
    assert incident_id is not None, "every episode has joined an incident before it is told or settled"
    return incident_id

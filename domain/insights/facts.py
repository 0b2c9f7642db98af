"""Reads what findings are made of: an account's own counts, in the time concerned and in the week before."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.incidents.episodes import Episode
from domain.incidents.models import Incident
from domain.insights import decline_mix, drops, endings, partner_incidents, queries
from domain.insights.partner_incidents import Traffic
from domain.telemetry import tickets
from domain.telemetry.models import Series
from domain.telemetry.sums import Stretch, sums

_BEFORE = timedelta(days=7)
_METRIC = "payments.count"


async def of_drop(
    session: AsyncSession,
    account: Account,
    incident: Incident,
    episodes: list[Episode],
    *,
    judged_until: datetime | None,
) -> drops.Facts:
    """Of the account's own episodes in an incident."""
    began = min(one.anomaly.started_at for one in episodes)
    usual = await tickets.turnover(session, account, at=began)
    facts = drops.Facts(account, incident, episodes, usual)
    where = facts.cause or facts.worst
    labels = where.series.labels
    codes = [labels[key] for key in ("partner", "issuer") if key in labels]
    partner = await queries.depended_on(session, account.id, codes) if codes else None
    until = where.anomaly.ended_at or max(judged_until or began, where.anomaly.detected_at)
    now, before = Stretch(where.anomaly.started_at, until), Stretch(began - _BEFORE, began)
    ends = [
        endings.ends(await sums(session, account.id, _METRIC, stretch, labels=labels))
        for stretch in (before, now)
    ]
    return drops.Facts(account, incident, episodes, usual, partner, endings.risen(*ends))


async def of_partner_incident(
    session: AsyncSession, account: Account, incident: Incident, *, judged_until: datetime | None
) -> partner_incidents.Facts | None:
    """Of an incident without an episode of the account; None where none of its traffic runs through there."""
    found = await queries.largest_share(session, account.id, incident.id)
    if found is None or found[1] <= 0:
        return None
    partner, share = found
    began, labels = incident.started_at, partner_incidents.slice_of(partner)
    until = min(incident.resolved_at or judged_until or began, judged_until or began)
    stretch = Stretch(began, until) if until > began else None
    before = await sums(session, account.id, _METRIC, Stretch(began - _BEFORE, began), labels=labels)
    now = await sums(session, account.id, _METRIC, stretch, labels=labels) if stretch else []
    rate = select(Series).where(
        Series.account_id == account.id,
        Series.metric == "authorization_rate",
        Series.is_measured.is_(False),
        Series.labels == labels,
    )
    return partner_incidents.Facts(
        account=account,
        incident=incident,
        partner=partner,
        share=share,
        usual=await tickets.turnover(session, account, at=began),
        judged_until=judged_until,
        stretch=stretch,
        before=Traffic.of(before),
        now=Traffic.of(now),
        series=await session.scalar(rate),
    )


async def of_decline_mix(
    session: AsyncSession, account: Account, *, until: datetime
) -> decline_mix.Facts | None:
    """How payments ended in the day before `until`, and in the week before that; None without codes."""
    began = until - decline_mix.NOW
    now = endings.ends(await sums(session, account.id, _METRIC, Stretch(began, until)))
    if not any(code for _, code in now):
        return None
    week = Stretch(began - decline_mix.BEFORE, began)
    before = endings.ends(await sums(session, account.id, _METRIC, week))
    usual = await tickets.turnover(session, account, at=began)
    return decline_mix.Facts(account, until, usual, before, now)

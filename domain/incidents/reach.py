"""Whom an incident touches: what it means for one account, and who depends on what it is about."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import ColumnElement, SQLColumnExpression, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account, Dependency
from domain.incidents import feed, queries
from domain.incidents.models import (
    Actor,
    ActorKind,
    Incident,
    IncidentAccount,
    IncidentPartner,
    IncidentService,
)

AT_ONCE = 500
"""The accounts that one transaction tells, since it holds the incident."""
SYSTEM = Actor(ActorKind.SYSTEM, "Vitals")
# Smaller changes of the estimate are kept and not told: who follows an incident is not to be tired.
_MATERIAL_MONEY, _MATERIAL_SHARE = 0.1, 0.05


@dataclass(frozen=True)
class IncidentImpact:
    """What an incident means for one account: money in minor units of `currency`, at 95 %; share 0..1."""

    currency: str
    summary: str = ""
    traffic_share: float | None = None
    money_low: int | None = None
    money_mid: int | None = None
    money_high: int | None = None


async def reach(
    session: AsyncSession,
    incident_id: UUID,
    account_id: UUID,
    impact: IncidentImpact,
    *,
    at: datetime,
    actor: Actor = SYSTEM,
) -> IncidentAccount:
    """Note what an incident means for an account, which is told the first time and when much has changed.

    A `traffic_share` or money of None leaves what is known. It locks the incident.
    """
    incident = await queries.get(session, incident_id, lock=True)
    row = await session.get(IncidentAccount, (account_id, incident_id), populate_existing=True)
    if row is None:
        return await _add(session, incident, account_id, impact, at=at, actor=actor)
    known = {key: value for key, value in asdict(impact).items() if value not in (None, "")}
    if any(getattr(row, key) != value for key, value in known.items()):
        is_material = _is_material(row, known)
        for key, value in known.items():
            setattr(row, key, value)
        row.updated_at = at
        await session.flush()
        if is_material:
            await feed.record(session, incident, "incident.impact_changed", actor=actor, at=at, account=row)
    return row


async def _add(
    session: AsyncSession,
    incident: Incident,
    account_id: UUID,
    impact: IncidentImpact,
    *,
    at: datetime,
    actor: Actor,
) -> IncidentAccount:
    row = IncidentAccount(
        account_id=account_id, incident_id=incident.id, reached_at=at, updated_at=at, **asdict(impact)
    )
    session.add(row)
    await session.flush()
    latest = await queries.latest_update(session, incident.id)
    await feed.record(session, incident, feed.REACHED, actor=actor, at=at, update=latest, account=row)
    return row


def _is_material(row: IncidentAccount, known: Mapping[str, object]) -> bool:
    return _moved(row.money_mid, known.get("money_mid"), relative=_MATERIAL_MONEY) or _moved(
        row.traffic_share, known.get("traffic_share"), absolute=_MATERIAL_SHARE
    )


def _moved(before: float | None, now: object, *, relative: float = 0.0, absolute: float = 0.0) -> bool:
    if not isinstance(now, int | float) or now == before:
        return False
    return before is None or abs(now - before) > max(absolute, relative * abs(before))


async def unspread(session: AsyncSession) -> Sequence[UUID]:
    """The live incidents that accounts depending on what they are about have not been told of."""
    about, known = _is_touched(Incident.id)
    rows = await session.scalars(
        select(Incident.id)
        .where(Incident.resolved_at.is_(None), exists(select(Dependency.id).where(about, ~known)))
        .order_by(Incident.started_at)
    )
    return rows.all()


def _is_touched(
    incident_id: UUID | SQLColumnExpression[UUID],
) -> tuple[ColumnElement[bool], ColumnElement[bool]]:
    """Of a dependency: whether it is on what the incident is about, and whether its account knows of it."""
    partner = exists().where(
        IncidentPartner.incident_id == incident_id, IncidentPartner.partner_id == Dependency.partner_id
    )
    service = exists().where(
        IncidentService.incident_id == incident_id, IncidentService.service_id == Dependency.service_id
    )
    known = exists().where(
        IncidentAccount.incident_id == incident_id, IncidentAccount.account_id == Dependency.account_id
    )
    return or_(partner, service), known


async def spread(session: AsyncSession, incident_id: UUID, *, at: datetime, limit: int = AT_ONCE) -> int:
    """Tell accounts that depend on what the incident is about; how many were new to it. Idempotent.

    At most `limit`: until it returns 0 there may be more. The share is the largest of the account's
    shares in those components, since they may overlap. It needs the workers' sight of all accounts.
    """
    incident = await queries.get(session, incident_id, lock=True)
    about, known = _is_touched(incident_id)
    new = await session.execute(
        select(Account.id, Account.currency, func.max(Dependency.traffic_share))
        .join(Dependency, Dependency.account_id == Account.id)
        .where(about, ~known)
        .group_by(Account.id)
        .order_by(Account.id)
        .limit(limit)
    )
    found = [(key, IncidentImpact(currency, traffic_share=share)) for key, currency, share in new]
    for account_id, impact in found:
        await _add(session, incident, account_id, impact, at=at, actor=SYSTEM)
    return len(found)

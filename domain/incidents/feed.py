"""What the feed says of an incident: recorded with the change, then told to each audience in its own stream.

An event of one account goes to that account, those above it and operators. One without goes to operators, the
incident's partners, the accounts that it has reached by then and, if the incident is public, to everyone.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncSession

from domain.core import events
from domain.delivery import streams
from domain.delivery.queries import Told
from domain.incidents.models import Actor, Incident, IncidentAccount, IncidentUpdate

OPENED = "OPENED"
REACHED = "incident.reached"
TYPES = {
    "incident.opened": OPENED,
    "incident.updated": "UPDATED",
    "incident.impact_changed": "IMPACT_CHANGED",
    "incident.acknowledged": "ACKNOWLEDGED",
    "incident.resolved": "RESOLVED",
    "incident.reopened": "REOPENED",
    "incident.postmortem_published": "POSTMORTEM_PUBLISHED",
    # For the account it is the first event and so OPENED; to operators the incident has grown.
    REACHED: "IMPACT_CHANGED",
}

_AUDIENCE = """
      SELECT b.id AS event_id, b.position, b.subject_id, a.stream, t.type
      FROM batch b
      JOIN unnest(CAST(:names AS text[]), CAST(:types AS text[])) AS t (name, type) ON t.name = b.name
      CROSS JOIN LATERAL (
        SELECT 'operator' AS stream
        UNION
        SELECT 'account:' || tree.ancestor_id FROM account_tree tree WHERE tree.account_id = b.account_id
        UNION
        SELECT 'account:' || tree.ancestor_id
        FROM events r JOIN account_tree tree ON tree.account_id = r.account_id
        WHERE b.account_id IS NULL AND r.subject_id = b.subject_id AND r.name = :reached
          AND r.position < b.position
        UNION
        SELECT 'partner:' || p.partner_id FROM incident_partners p
        WHERE b.account_id IS NULL AND p.incident_id = b.subject_id
        UNION
        SELECT 'public' FROM incidents i
        WHERE b.account_id IS NULL AND i.id = b.subject_id AND i.is_public
      ) a
"""


async def publish(session: AsyncSession, *, limit: int, at: datetime) -> Sequence[streams.Published]:
    """Tell up to `limit` recorded events to their audiences, oldest first; empty when none is left.

    Events that are none of an incident have no audience: they are marked as published and returned.
    """
    return await streams.publish(
        session,
        audience=_AUDIENCE,
        first_type=OPENED,
        limit=limit,
        at=at,
        binds={"names": list(TYPES), "types": list(TYPES.values()), "reached": REACHED},
    )


async def record(
    session: AsyncSession,
    incident: Incident,
    name: str,
    *,
    actor: Actor,
    at: datetime,
    update: IncidentUpdate | None = None,
    account: IncidentAccount | None = None,
) -> None:
    """Record what happened to an incident whose row is locked, as it is now; `update` is what was posted.

    With `account` it concerns that account alone and says what the incident means for it.
    """
    payload: dict[str, Any] = {
        "incident_id": str(incident.id),
        "kind": incident.kind,
        "title": incident.title,
        "summary": incident.summary,
        "status": incident.status,
        "impact": incident.impact,
        "severity": incident.severity,
        "started_at": incident.started_at.isoformat(),
        "resolved_at": incident.resolved_at.isoformat() if incident.resolved_at else None,
        "actor": {"kind": actor.kind, "name": actor.name},
        "update": _update(update) if update else None,
    }
    if account:
        payload["account"] = _account(account)
    account_id = account.account_id if account else None
    await events.record(session, name, incident.id, at=at, account_id=account_id, **payload)


def posted(told: Told) -> dict[str, Any] | None:
    """The update that a stream's event carries: what was posted or, as it opens, the latest there was."""
    if told.payload.get("account") and told.type != OPENED:
        return None
    update: dict[str, Any] | None = told.payload["update"]
    return update


def _update(update: IncidentUpdate) -> dict[str, Any]:
    return {
        "id": str(update.id),
        "status": update.status,
        "body": update.body,
        "display_at": update.display_at.isoformat(),
        "created_at": update.created_at.isoformat(),
        "author": {"kind": update.author_kind, "name": update.author_name},
        "affected_components": update.affected_components,
    }


def _account(account: IncidentAccount) -> dict[str, Any]:
    return {
        "id": str(account.account_id),
        "summary": account.summary,
        "traffic_share": account.traffic_share,
        "money_low": account.money_low,
        "money_mid": account.money_mid,
        "money_high": account.money_high,
        "currency": account.currency,
    }

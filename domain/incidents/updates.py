"""What is told about an incident: the texts, and what a new one changes of the incident itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NotRequired, TypedDict
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.errors import InvalidInput
from domain.core.ids import uuid7
from domain.incidents.models import Actor, Impact, Incident, IncidentStatus, IncidentUpdate, Severity

MAX_BODY = 20_000


class Change(TypedDict):
    """What an update may change besides; absent or None leaves it. Without `summary` the body becomes it."""

    status: NotRequired[IncidentStatus | None]
    impact: NotRequired[Impact | None]
    severity: NotRequired[Severity | None]
    title: NotRequired[str]
    summary: NotRequired[str]
    next_update_by: NotRequired[datetime | None]
    display_at: NotRequired[datetime | None]
    external_id: NotRequired[str]


def check_body(body: str) -> None:
    """InvalidInput unless it is a text that can be kept: CommonMark, of several lines."""
    if not body.strip():
        raise InvalidInput("A body must not be empty.", path=("body",))
    if len(body) > MAX_BODY:
        raise InvalidInput(f"A body must have at most {MAX_BODY} characters.", path=("body",))
    if any(char == "\0" or "\ud800" <= char <= "\udfff" for char in body):
        raise InvalidInput("A body must not hold NUL or lone surrogates.", path=("body",))


async def add(
    session: AsyncSession,
    incident: Incident,
    *,
    body: str,
    actor: Actor,
    at: datetime,
    display_at: datetime | None = None,
    changes: Sequence[dict[str, Any]] = (),
    **told: Any,
) -> IncidentUpdate:
    """A new update; its status is the incident's unless `told` has another."""
    row = IncidentUpdate(
        **{"status": incident.status, **told},
        id=uuid7(),
        incident_id=incident.id,
        body=body,
        display_at=display_at or at,
        created_at=at,
        updated_at=at,
        author_kind=actor.kind,
        author_name=actor.name,
        affected_components=list(changes),
    )
    session.add(row)
    await session.flush()
    return row


async def by_external_id(
    session: AsyncSession, incident_id: UUID, external_id: str | None
) -> IncidentUpdate | None:
    if external_id is None:
        return None
    return await session.scalar(
        select(IncidentUpdate).where(
            IncidentUpdate.incident_id == incident_id, IncidentUpdate.external_id == external_id
        )
    )


def amend(update: IncidentUpdate, *, body: str, change: Change, at: datetime) -> bool:
    """Take over a text, status or time that was changed afterwards; whether one was."""
    now = {
        "body": body,
        "status": change.get("status") or update.status,
        "display_at": change.get("display_at") or update.display_at,
    }
    changed = {key: value for key, value in now.items() if getattr(update, key) != value}
    for key, value in changed.items():
        setattr(update, key, value)
    update.updated_at = at if changed else update.updated_at
    return bool(changed)


def apply(incident: Incident, *, body: str, change: Change, at: datetime) -> str:
    """Let the newest update change its incident; the name of what has happened to it."""
    status = change.get("status") or incident.status
    impact = change.get("impact") or incident.impact
    name = "incident.updated" if impact is incident.impact else "incident.impact_changed"
    if status is not incident.status:
        if status is IncidentStatus.POSTMORTEM:
            name = "incident.postmortem_published"
        if status is IncidentStatus.MONITORING and incident.monitoring_at is None:
            incident.monitoring_at = at
    incident.status, incident.impact = status, impact
    incident.severity = change.get("severity") or incident.severity
    incident.title = change.get("title", incident.title)
    incident.summary = change.get("summary", body)
    incident.next_update_by = change.get("next_update_by")
    incident.updated_at = at
    return name

"""Changes insights: what people do about them, and what the findings behind them have become.

Every change holds the insight's row until its transaction ends, and records what happened with it.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import case, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.principal import Principal
from domain.core import events
from domain.core.errors import InvalidInput
from domain.core.ids import uuid7
from domain.core.texts import text_flaw
from domain.insights import queries
from domain.insights.findings import Finding
from domain.insights.models import DismissalReason, Insight, InsightStatus

MOST_SEEN = 100
_MAX_NOTE = 2_000
# What nobody has taken charge of, and so ends by itself.
_UNTAKEN = (InsightStatus.NEW, InsightStatus.SEEN)
# What follows from the facts and is not one: it changes with them, and never alone.
_FOLLOWING = ("rank", "confidence")


async def acknowledge(
    session: AsyncSession,
    insight_id: UUID,
    *,
    by: str,
    at: datetime,
    assignee: str | None = None,
    principal: Principal | None = None,
) -> Insight:
    """Accept an insight: `assignee` (None: `by`) will see to it. Again, only a named assignee changes it."""
    if assignee is not None and (flaw := text_flaw(assignee)):
        raise InvalidInput(f"An assignee {flaw}.", path=("assignee",))
    insight = await queries.get(session, insight_id, principal=principal, lock=True)
    insight.must_be_open()
    taken = insight.status is InsightStatus.ACCEPTED
    wanted = assignee or (insight.assignee if taken else None) or by
    if not taken or insight.assignee != wanted:
        insight.status, insight.assignee = InsightStatus.ACCEPTED, wanted
        await _record(session, insight, at=at, by=by, assignee=wanted)
    return insight


async def dismiss(
    session: AsyncSession,
    insight_id: UUID,
    *,
    reason: DismissalReason,
    by: str,
    at: datetime,
    note: str | None = None,
    principal: Principal | None = None,
) -> Insight:
    """Put an insight aside; the same again changes nothing, another reason or note is InsightClosed."""
    _check_note(note)
    insight = await queries.get(session, insight_id, principal=principal, lock=True)
    same = (insight.dismissal_reason, insight.dismissal_note) == (reason, note)
    if insight.status is InsightStatus.DISMISSED and same:
        return insight
    insight.must_be_open()
    insight.status, insight.dismissal_reason, insight.dismissal_note = InsightStatus.DISMISSED, reason, note
    await _record(session, insight, at=at, by=by, reason=reason, note=note)
    return insight


async def complete(
    session: AsyncSession,
    insight_id: UUID,
    *,
    action_key: str,
    by: str,
    at: datetime,
    applied_at: datetime | None = None,
    note: str | None = None,
    principal: Principal | None = None,
) -> Insight:
    """Note that a recommended action was taken at `applied_at` (None: `at`), which is not in the future.

    The same action again changes nothing, another one is InsightClosed.
    """
    _check_note(note)
    if applied_at is not None and applied_at > at:
        raise InvalidInput("An action that was taken is not in the future.", path=("appliedAt",))
    insight = await queries.get(session, insight_id, principal=principal, lock=True)
    if insight.status is InsightStatus.APPLIED and insight.applied_action == action_key:
        return insight
    insight.must_be_open()
    keys = [action["key"] for action in insight.recommended_actions]
    if action_key not in keys:
        raise InvalidInput(
            f"There is no action {action_key!r} here; there are: {', '.join(keys)}.", path=("actionKey",)
        )
    insight.status, insight.applied_action = InsightStatus.APPLIED, action_key
    insight.applied_at = applied_at or at
    await _record(session, insight, at=at, by=by, action=action_key, note=note)
    return insight


async def mark_seen(
    session: AsyncSession,
    insight_ids: Sequence[UUID],
    *,
    by: str,
    at: datetime,
    principal: Principal | None = None,
) -> list[Insight]:
    """Mark those that are NEW as SEEN, in the order given; all or, if one is not found, none."""
    if len(insight_ids) > MOST_SEEN:
        raise InvalidInput(f"At most {MOST_SEEN} insights at a time.", path=("ids",))
    found = {
        key: await queries.get(session, key, principal=principal, lock=True)
        for key in sorted(set(insight_ids))
    }
    for insight in found.values():
        if insight.status is InsightStatus.NEW:
            insight.status = InsightStatus.SEEN
            await _record(session, insight, at=at, by=by)
    return [found[key] for key in insight_ids]


async def put(session: AsyncSession, finding: Finding, *, at: datetime) -> bool:
    """Write what a finding is now; whether that is new. A finding that holds again after it expired is NEW.

    Safe in twos: one row for each account and key, whoever comes first.
    """
    columns, insight_id = finding.columns(at), uuid7()
    statement = insert(Insight).values(
        **columns, id=insight_id, status=InsightStatus.NEW, created_at=at, updated_at=at
    )
    new, facts = statement.excluded, [name for name in columns if name not in (*_FOLLOWING, "expires_at")]
    is_expired = Insight.status == InsightStatus.EXPIRED
    upsert = statement.on_conflict_do_update(
        index_elements=["account_id", "finding_key"],
        set_={
            **{name: new[name] for name in (*columns, "updated_at")},
            "status": case((is_expired, InsightStatus.NEW), else_=Insight.status),
        },
        where=or_(
            is_expired,
            Insight.expires_at.is_distinct_from(new.expires_at),
            *(getattr(Insight, name).is_distinct_from(new[name]) for name in facts),
        ),
    )
    row = (await session.execute(upsert.returning(Insight.id, Insight.status))).first()
    if row is None:
        return False
    name = "insight.created" if row.id == insight_id else "insight.updated"
    await events.record(
        session, name, row.id, at=at, account_id=finding.account.id, kind=finding.kind, status=row.status,
        severity=finding.severity, title=finding.title,
    )  # fmt: skip
    return True


async def retract(
    session: AsyncSession, account_id: UUID, *, prefix: str, keep: Sequence[str] = (), at: datetime
) -> int:
    """End the account's findings whose keys begin with `prefix`, but for `keep`: they no longer hold."""
    return await _end(
        session,
        Insight.account_id == account_id,
        Insight.finding_key.startswith(prefix, autoescape=True),
        Insight.finding_key.not_in(keep),
        at=at,
    )


async def expire(session: AsyncSession, at: datetime) -> int:
    """End those that are past their time. What somebody took charge of stays until they end it."""
    return await _end(session, Insight.expires_at <= at, at=at)


async def _end(session: AsyncSession, *which: Any, at: datetime) -> int:
    due = select(Insight.id).where(Insight.status.in_(_UNTAKEN), *which).order_by(Insight.id)
    rows = await session.scalars(
        update(Insight)
        .where(Insight.id.in_(due.with_for_update(skip_locked=True)))
        .values(status=InsightStatus.EXPIRED, updated_at=at, expires_at=func.least(Insight.expires_at, at))
        .returning(Insight)
        .execution_options(populate_existing=True)
    )
    ended = rows.all()
    for insight in ended:
        await _tell(session, insight, at=at)
    return len(ended)


async def _record(session: AsyncSession, insight: Insight, *, at: datetime, **told: Any) -> None:
    insight.updated_at = at
    await session.flush()
    await _tell(session, insight, at=at, **told)


async def _tell(session: AsyncSession, insight: Insight, *, at: datetime, **told: Any) -> None:
    await events.record(
        session, "insight.updated", insight.id, at=at, account_id=insight.account_id, kind=insight.kind,
        status=insight.status, severity=insight.severity, title=insight.title, **told,
    )  # fmt: skip


def _check_note(note: str | None) -> None:
    """A note may have several lines."""
    lines = None if note is None else note.replace("\r", " ").replace("\n", " ")
    if lines is not None and (flaw := text_flaw(lines, longest=_MAX_NOTE)):
        raise InvalidInput(f"A note {flaw}.", path=("note",))

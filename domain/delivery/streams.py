"""Gives committed events their place in the streams of those who may hear of them.

Sequences have no hole and follow `position`; one transaction does all of it or nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Uuid, any_, literal, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.events import Event

WAKE = "vitals_stream"
"""The channel on which a commit wakes those who serve streams; it carries nothing."""

# Every event of the feed goes to the operators' stream, so locks by stream would all wait for that
# one: a single lock is the same order with less to go wrong. A relay that is stopped in the middle
# loses its transaction, and with it the lock, after a while.
_LOCK = text(
    """
    SELECT set_config('idle_in_transaction_session_timeout', '15s', true),
           pg_advisory_xact_lock(hashtext('vitals.streams'))
    """
)

# `audience` reads `batch` and gives (event_id, position, subject_id, stream, type).
_PUBLISH = """
    WITH batch AS MATERIALIZED (
      SELECT id, position, name, subject_id, account_id FROM events
      WHERE published_at IS NULL ORDER BY position LIMIT :limit
    ), audience AS MATERIALIZED ({audience}
    ), placed AS MATERIALIZED (
      SELECT a.*,
        coalesce(s.last_sequence, 0)
          + row_number() OVER (PARTITION BY a.stream ORDER BY a.position) AS sequence,
        coalesce((SELECT max(e.version) FROM stream_events e
                  WHERE e.stream = a.stream AND e.subject_id = a.subject_id), 0)
          + row_number() OVER (PARTITION BY a.stream, a.subject_id ORDER BY a.position) AS version
      FROM audience a LEFT JOIN streams s ON s.name = a.stream
    ), moved AS (
      INSERT INTO streams (name, last_sequence)
      SELECT stream, max(sequence) FROM placed GROUP BY stream
      ON CONFLICT (name) DO UPDATE SET last_sequence = excluded.last_sequence
    ), told AS (
      INSERT INTO stream_events (stream, sequence, event_id, subject_id, version, type, sequenced_at)
      SELECT stream, sequence, event_id, subject_id, version,
             CASE WHEN version = 1 THEN :first_type ELSE type END, :at
      FROM placed RETURNING 1
    ), published AS (
      UPDATE events e SET published_at = :at FROM batch b WHERE e.id = b.id
    )
    SELECT b.*, (SELECT count(*) FROM told) AS told FROM batch b ORDER BY b.position
"""


@dataclass(frozen=True)
class Published:
    """An event that has been sequenced; who published it sees to the tasks that it calls for."""

    id: UUID
    name: str
    subject_id: UUID
    account_id: UUID | None


async def publish(
    session: AsyncSession,
    *,
    audience: str,
    first_type: str,
    limit: int,
    at: datetime,
    binds: dict[str, Any],
) -> Sequence[Published]:
    """Sequence up to `limit` committed events, oldest first; empty when there is none left.

    It takes what has no sequence yet, and not what lies behind the last one: an event that commits
    late is found late, never skipped. Events of one subject must be recorded under a lock of that
    subject, so that they commit in the order of their positions. The first event of a subject in a
    stream has the type `first_type`.
    """
    await session.execute(_LOCK)
    statement = text(_PUBLISH.format(audience=audience))
    values = {**binds, "limit": limit, "at": at, "first_type": first_type}
    rows = (await session.execute(statement, values)).all()
    if rows and rows[0].told:
        await session.execute(text(f"NOTIFY {WAKE}"))
    return [Published(row.id, row.name, row.subject_id, row.account_id) for row in rows]


async def undispatched(session: AsyncSession, *, before: datetime, limit: int) -> Sequence[Published]:
    """Events that were published before `before` and whose tasks, as far as is known, nobody sent since."""
    rows = await session.execute(
        select(Event.id, Event.name, Event.subject_id, Event.account_id)
        .where(Event.dispatched_at.is_(None), Event.published_at < before)
        .order_by(Event.position)
        .limit(limit)
    )
    return [Published(*row) for row in rows]


async def mark_dispatched(session: AsyncSession, event_ids: Sequence[UUID], *, at: datetime) -> None:
    """Note that the tasks of these events are with the broker; not before they are."""
    wanted = literal(sorted(event_ids), ARRAY(Uuid))
    await session.execute(
        update(Event).where(Event.id == any_(wanted)).values(dispatched_at=at),
        execution_options={"synchronize_session": False},
    )

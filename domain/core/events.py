"""The outbox: what happened, recorded in the transaction in which it happened.

The relay reads it; nothing else tells one slice, process or client about another.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Identity, Index, insert, text
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.ids import uuid7
from domain.core.model import Base, Json, Key

WAKE = "vitals_wake"
"""The channel on which a commit wakes the relay; it carries nothing, and nothing depends on it."""


class Event(Base):
    """A past fact, such as `incident.opened`. `position` orders the facts of one subject.

    It is published once it stands in the streams of those who may hear of it, dispatched once the
    tasks that it calls for are with the broker.

    With `account_id` the payload concerns that account alone and is told to nobody else
    but operators; without it the payload carries no account's names or figures.
    """

    __tablename__ = "events"
    __table_args__ = (
        Index("ix_events_unpublished", "position", postgresql_where=text("published_at IS NULL")),
        Index("ix_events_undispatched", "position", postgresql_where=text("dispatched_at IS NULL")),
        Index("ix_events_subject_id", "subject_id", "position"),
    )

    id: Mapped[Key]
    position: Mapped[int] = mapped_column(BigInteger, Identity(always=True), unique=True)
    name: Mapped[str]
    subject_id: Mapped[UUID]
    account_id: Mapped[UUID | None]
    payload: Mapped[Json]
    at: Mapped[datetime]
    published_at: Mapped[datetime | None]
    dispatched_at: Mapped[datetime | None]


async def record(
    session: AsyncSession,
    name: str,
    subject_id: UUID,
    *,
    at: datetime,
    account_id: UUID | None = None,
    **payload: Any,
) -> UUID:
    """Record that `name` happened to `subject_id`; visible to the relay once the transaction commits."""
    event_id = uuid7()
    # No RETURNING: the writer need not be allowed to read what it records.
    await session.execute(
        insert(Event.__table__).values(  # type: ignore[arg-type]  # a mapped class has a Table
            id=event_id,
            name=name,
            subject_id=subject_id,
            account_id=account_id,
            payload=payload,
            at=at,
        )
    )
    await session.execute(text(f"NOTIFY {WAKE}"))
    return event_id

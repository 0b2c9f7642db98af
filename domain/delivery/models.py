"""Streams: what each audience is told, in an order of its own without a hole."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.model import Base

OPERATOR, PUBLIC = "operator", "public"


def of_account(account_id: UUID) -> str:
    return f"account:{account_id}"


def of_partner(partner_id: UUID) -> str:
    return f"partner:{partner_id}"


class Stream(Base):
    """An audience, and the last sequence number it was given."""

    __tablename__ = "streams"

    name: Mapped[str] = mapped_column(primary_key=True)
    last_sequence: Mapped[int] = mapped_column(BigInteger, default=0)


class StreamEvent(Base):
    """An event's place in one stream; `version` counts the events of its subject in this stream from 1."""

    __tablename__ = "stream_events"
    __table_args__ = (
        UniqueConstraint("event_id", "stream"),
        UniqueConstraint("stream", "subject_id", "version"),
    )

    stream: Mapped[str] = mapped_column(ForeignKey("streams.name"), primary_key=True)
    sequence: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    event_id: Mapped[UUID] = mapped_column(ForeignKey("events.id"))
    subject_id: Mapped[UUID]
    version: Mapped[int]
    type: Mapped[str]
    sequenced_at: Mapped[datetime]


class StreamConsumer(Base):
    """A named reader of a stream, and how far it says that it has come; it never goes back."""

    __tablename__ = "stream_consumers"

    stream: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    acknowledged_sequence: Mapped[int] = mapped_column(BigInteger)
    acknowledged_at: Mapped[datetime]

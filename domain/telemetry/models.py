"""Telemetry as it is kept: series, their minutes and hours, and the log that acknowledged points wait in."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, ForeignKey, Identity, Index, LargeBinary, UniqueConstraint
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.model import Base, Big, Json, Key


class Series(Base):
    """One metric of one account with some labels fixed.

    A measured series holds points. The others are made of the measured ones whose labels contain
    theirs: totals, splits by one label, and rates of two counts.
    """

    __tablename__ = "series"
    __table_args__ = (
        UniqueConstraint("account_id", "fingerprint"),
        Index(None, "account_id", "metric", "id"),
    )

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    metric: Mapped[str]
    labels: Mapped[dict[str, str]] = mapped_column(JSONB)
    is_measured: Mapped[bool]
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class Source(Base):
    """A sender: the principal and the instance that it says it is. Points of different sources add up."""

    __tablename__ = "sources"
    __table_args__ = (UniqueConstraint("scope", "name"),)

    id: Mapped[Key]
    scope: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime]


class Minute(Base):
    """What one source said of one series in the minute that begins `at`.

    `value` is the count, amount or level; for distributions the sum of `count` observations.
    """

    __tablename__ = "minutes"
    __table_args__ = {"postgresql_partition_by": "RANGE (at)"}

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    series_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    source_id: Mapped[UUID] = mapped_column(primary_key=True)
    value: Mapped[float]
    count: Mapped[Big]


class Hour(Base):
    """The sum over all sources and minutes of the hour that begins `at`; recomputed, never added to."""

    __tablename__ = "hours"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    series_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    value: Mapped[float]
    count: Mapped[Big]


class DirtyHour(Base):
    """An hour of an account whose minutes changed since it was last rolled up."""

    __tablename__ = "dirty_hours"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)


class Watermark(Base):
    """How far a source has come with an account: its newest point, and when that was received."""

    __tablename__ = "watermarks"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    source_id: Mapped[UUID] = mapped_column(ForeignKey("sources.id"), primary_key=True)
    oldest_at: Mapped[datetime]
    newest_at: Mapped[datetime]
    received_at: Mapped[datetime]


class IngestBatch(Base):
    """A request that was acknowledged; its repetition gets the same reply and has no effect."""

    __tablename__ = "ingest_batches"

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    scope: Mapped[str]
    body_hash: Mapped[bytes] = mapped_column(LargeBinary)
    reply: Mapped[Json]
    received_at: Mapped[datetime] = mapped_column(index=True)


class IngestLog(Base):
    """Acknowledged points that wait to be folded into minutes, a row a batch, columns compressed.

    A batch that cannot be read is kept aside with its `failure`; emptied of it, it is tried again.
    """

    __tablename__ = "ingest_log"

    id: Mapped[int] = mapped_column(BigInteger, Identity(always=True), primary_key=True)
    received_at: Mapped[datetime]
    backfill: Mapped[bool]
    points: Mapped[int]
    columns: Mapped[bytes] = mapped_column(LargeBinary)
    failure: Mapped[str | None]

"""Telemetry as it is kept: series, their blocks and chunks, and the log that acknowledged points wait in."""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.model import Base, Big, Json, Key
from domain.telemetry.points import Kind


class Series(Base):
    """One metric of one account with some labels fixed.

    A measured series holds points, under a `number` within its account; `kind` is what its values are.
    The others are made of the measured ones whose labels contain theirs: totals, splits by one label, and
    rates of two counts.
    """

    __tablename__ = "series"
    # The account is in the key so that rows lie by it (docs/citus.md); the id alone tells them apart.
    __mapper_args__ = {"primary_key": ["id"]}
    __table_args__ = (
        UniqueConstraint("account_id", "fingerprint"),
        UniqueConstraint("account_id", "number"),
        Index(None, "account_id", "metric", "id"),
        CheckConstraint("is_measured = (number IS NOT NULL)", name="numbered"),
    )

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    number: Mapped[int | None]
    metric: Mapped[str]
    kind: Mapped[Kind]
    labels: Mapped[dict[str, str]] = mapped_column(JSONB)
    is_measured: Mapped[bool]
    fingerprint: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime]


class AccountSeries(Base):
    """The newest number given to a series of an account; its row is locked to register others.

    Up to `watched_number` the series that they are part of are registered too.
    """

    __tablename__ = "account_series"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    last_number: Mapped[int]
    watched_number: Mapped[int] = mapped_column(default=0)


class Source(Base):
    """A sender: the principal and the instance that it says it is. Points of different sources add up."""

    __tablename__ = "sources"
    __table_args__ = (UniqueConstraint("scope", "name"), UniqueConstraint("number"))

    id: Mapped[Key]
    number: Mapped[int] = mapped_column(Identity(always=True))
    scope: Mapped[str]
    name: Mapped[str]
    created_at: Mapped[datetime]
    heard_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Minute(Base):
    """What one source said of a shard of an account's series in the minute that begins `at`: a block."""

    __tablename__ = "minutes"
    __table_args__ = {"postgresql_partition_by": "RANGE (at)"}

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    source: Mapped[int] = mapped_column(primary_key=True)
    cells: Mapped[bytes] = mapped_column(LargeBinary)


class LastReadings(Base):
    """The newest readings of running totals, from which increases are derived."""

    __tablename__ = "last_readings"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    source: Mapped[int] = mapped_column(primary_key=True)
    readings: Mapped[bytes] = mapped_column(LargeBinary)


class Rollup(Base):
    """A block over all sources and the `step` minutes from `at`; recomputed, never added to."""

    __tablename__ = "rollups"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)
    cells: Mapped[bytes] = mapped_column(LargeBinary)


class DirtyWindow(Base):
    """The `step` minutes of an account from `at`, which changed since they were last rolled up."""

    __tablename__ = "dirty_windows"
    __table_args__ = (Index(None, "step", "at", "account_id"),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    step: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[datetime] = mapped_column(primary_key=True)


class ShardDay(Base):
    """A day (UTC) of an account's shard: how often its minutes changed, and whether they are in chunks."""

    __tablename__ = "shard_days"
    __table_args__ = (Index("ix_shard_days_unpacked", "day", postgresql_where=text("NOT is_packed")),)

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    shard: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    changes: Mapped[Big]
    is_packed: Mapped[bool]


class Chunk(Base):
    """The minutes of a series in a day (UTC) that is over, of every source."""

    __tablename__ = "chunks"

    account_id: Mapped[UUID] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    cells: Mapped[bytes] = mapped_column(LargeBinary)


class Watermark(Base):
    """How far a source has come with an account: its newest point, and when that was received."""

    __tablename__ = "watermarks"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    source: Mapped[int] = mapped_column(ForeignKey("sources.number"), primary_key=True)
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

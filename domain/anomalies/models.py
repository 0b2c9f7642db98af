"""What the detectors know of each series, and the episodes in which one left its expectation."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, LargeBinary
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from domain.anomalies.episodes import Phase
from domain.core.model import Base, Big, Key


class Direction(StrEnum):
    UP = "UP"
    DOWN = "DOWN"
    MISSING = "MISSING"


class AccountWatch(Base):
    """How far an account is judged (`judged_until`, exclusive), and its detectors' state, saved exactly."""

    __tablename__ = "account_watches"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    judged_from: Mapped[datetime]
    judged_until: Mapped[datetime]
    state: Mapped[bytes] = mapped_column(LargeBinary)


class Watch(Base):
    """The present phase of one watched series."""

    __tablename__ = "watches"
    __table_args__ = (ForeignKeyConstraint(["account_id", "series_id"], ["series.account_id", "series.id"]),)

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    series_id: Mapped[UUID] = mapped_column(primary_key=True)
    phase: Mapped[Phase]
    since: Mapped[datetime]
    remark: Mapped[str | None]


class Anomaly(Base):
    """An episode: a stretch in which a series left its expectation.

    Figures are those from its start until it was last judged: a rate of `sample_size` attempts, or
    attempts. `shortfall` is by how many good payments (of volume: attempts) it fell short.
    """

    __tablename__ = "anomalies"
    __table_args__ = (
        ForeignKeyConstraint(["account_id", "series_id"], ["series.account_id", "series.id"]),
        Index(None, "account_id", "series_id", "started_at"),
    )
    # The account is in the key so that rows lie by it (docs/citus.md); the id alone tells them apart.
    __mapper_args__ = {"primary_key": ["id"]}

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    series_id: Mapped[UUID]
    incident_id: Mapped[UUID | None] = mapped_column(index=True)
    phase: Mapped[Phase]
    direction: Mapped[Direction]
    started_at: Mapped[datetime]
    detected_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    observed: Mapped[float]
    expected: Mapped[float]
    lower: Mapped[float]
    upper: Mapped[float]
    score: Mapped[float]
    sample_size: Mapped[Big]
    detector: Mapped[str]
    shortfall: Mapped[float]
    shortfall_variance: Mapped[float]
    cause: Mapped[dict[str, str]] = mapped_column(JSONB)

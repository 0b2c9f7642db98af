"""What is to be expected of a series, and the jobs that compute it."""

from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import NotFound
from domain.core.model import Base, Json, Key


class JobStatus(StrEnum):
    """The last three are final."""

    QUEUED = "QUEUED"
    RUNNING = "RUNNING"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"


class JobKind(StrEnum):
    FORECAST = "FORECAST"


class Job(Base):
    """Work leased by one worker at a time; a lease that lapses is taken by another."""

    __tablename__ = "jobs"
    __table_args__ = (
        Index("ix_jobs_open", "created_at", postgresql_where=text("finished_at IS NULL")),
        # A fit that waits already is joined: one open job for a series and end of training.
        Index("uq_jobs_open", "account_id", "series_id", "trained_until", unique=True,
              postgresql_where=text("finished_at IS NULL")),
        Index(None, "account_id", "trained_until"),
        ForeignKeyConstraint(["account_id", "series_id"], ["series.account_id", "series.id"]),
    )  # fmt: skip
    # The account is in the key so that rows lie by it (docs/citus.md); the id alone tells them apart.
    __mapper_args__ = {"primary_key": ["id"]}

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    series_id: Mapped[UUID]
    kind: Mapped[JobKind]
    status: Mapped[JobStatus]
    requested_by: Mapped[str]
    trained_until: Mapped[datetime]
    horizon_hours: Mapped[int]
    attempts: Mapped[int] = mapped_column(default=0)
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    leased_until: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]
    failure: Mapped[str | None]


class Forecast(Base):
    """Hourly bands from `start`, in the metric's unit an hour; all arrays have one length.

    Fitted in the account's local time, kept in UTC. There is one for a series and end of training.
    """

    __tablename__ = "forecasts"
    __table_args__ = (
        UniqueConstraint("account_id", "series_id", "trained_until"),
        ForeignKeyConstraint(["account_id", "series_id"], ["series.account_id", "series.id"]),
    )
    __mapper_args__ = {"primary_key": ["id"]}

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    series_id: Mapped[UUID] = mapped_column(index=True)
    model: Mapped[str]
    fitted_at: Mapped[datetime]
    trained_from: Mapped[datetime]
    trained_until: Mapped[datetime]
    start: Mapped[datetime]
    yhat: Mapped[list[float]]
    yhat_lower80: Mapped[list[float]]
    yhat_upper80: Mapped[list[float]]
    yhat_lower95: Mapped[list[float]]
    yhat_upper95: Mapped[list[float]]
    remarks: Mapped[list[str]]
    settings: Mapped[Json]

    @property
    def horizon(self) -> timedelta:
        return timedelta(hours=len(self.yhat))


class SeriesNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("series", key)

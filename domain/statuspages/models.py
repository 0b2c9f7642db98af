"""What was seen on a partner's own status page."""

from datetime import datetime
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.model import Base, Json, Key


class StatusSnapshot(Base):
    """A Statuspage v2 `summary.json` as it was at `observed_at`; applied once, in order of observation.

    One that has been dealt with but was not believed, or failed at each of its attempts, has a `refusal`.
    """

    __tablename__ = "status_snapshots"
    __table_args__ = (
        UniqueConstraint("partner_id", "observed_at"),
        Index("ix_status_snapshots_waiting", "partner_id", "observed_at",
              postgresql_where=text("applied_at IS NULL")),
    )  # fmt: skip

    id: Mapped[Key]
    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id"))
    observed_at: Mapped[datetime]
    received_at: Mapped[datetime]
    body_hash: Mapped[bytes] = mapped_column(LargeBinary)
    summary: Mapped[Json]
    applied_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    refusal: Mapped[str | None]

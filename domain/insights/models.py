"""Insights: something worth knowing about one account, what it is worth and what to do."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import Conflict, NotFound
from domain.core.model import Base, Big, JsonList, Key
from domain.incidents.models import Severity


class InsightKind(StrEnum):
    AUTHORIZATION_RATE_DROP = "AUTHORIZATION_RATE_DROP"
    TRAFFIC_VOLUME_DROP = "TRAFFIC_VOLUME_DROP"
    PARTNER_INCIDENT = "PARTNER_INCIDENT"
    DECLINE_CODE_MIX_SHIFT = "DECLINE_CODE_MIX_SHIFT"


class InsightStatus(StrEnum):
    """SEEN, ACCEPTED, APPLIED and DISMISSED are a person's doing; EXPIRED when it no longer holds."""

    NEW = "NEW"
    SEEN = "SEEN"
    ACCEPTED = "ACCEPTED"
    APPLIED = "APPLIED"
    DISMISSED = "DISMISSED"
    EXPIRED = "EXPIRED"


class DismissalReason(StrEnum):
    NOT_RELEVANT = "NOT_RELEVANT"
    ALREADY_KNOWN = "ALREADY_KNOWN"
    WRONG = "WRONG"
    TOO_SMALL = "TOO_SMALL"
    EXPECTED = "EXPECTED"


class Insight(Base):
    """One finding, once (`finding_key` is unique for the account); money at 95 %, minor units of `currency`.

    `confidence` is the probability, by the figures, that at least half of the stated effect is true;
    0.5 where none could be measured. `rank` orders by loss and freshness (see `findings.rank`).
    """

    __tablename__ = "insights"
    __table_args__ = (
        UniqueConstraint("account_id", "finding_key"),
        Index(None, "account_id", "created_at", "id"),
        Index(None, "account_id", "rank", "id"),
    )
    # The account is in the key so that rows lie by it (docs/citus.md); the id alone tells them apart.
    __mapper_args__ = {"primary_key": ["id"]}

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    finding_key: Mapped[str]
    kind: Mapped[InsightKind]
    status: Mapped[InsightStatus]
    severity: Mapped[Severity]
    title: Mapped[str]
    summary: Mapped[str]
    incident_id: Mapped[UUID | None] = mapped_column(ForeignKey("incidents.id"), index=True)
    service_id: Mapped[UUID | None] = mapped_column(ForeignKey("services.id"))
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id"))
    evidence: Mapped[JsonList]
    recommended_actions: Mapped[JsonList]
    impact_low: Mapped[Big | None]
    impact_mid: Mapped[Big | None]
    impact_high: Mapped[Big | None]
    currency: Mapped[str]
    confidence: Mapped[float]
    rank: Mapped[float]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    assignee: Mapped[str | None]
    dismissal_reason: Mapped[DismissalReason | None]
    dismissal_note: Mapped[str | None]
    applied_action: Mapped[str | None]
    applied_at: Mapped[datetime | None]

    def must_be_open(self) -> None:
        if self.status in (InsightStatus.APPLIED, InsightStatus.DISMISSED, InsightStatus.EXPIRED):
            raise InsightClosed(self)


class InsightNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("insight", key)


class InsightClosed(Conflict):
    def __init__(self, insight: Insight) -> None:
        super().__init__(f"The insight is {insight.status.lower()} already.", subject=insight)

"""Incidents: the story that people and partners follow.

An incident's own row carries no account's names or figures; what it means for one account
stands in `incident_accounts`.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import Conflict, NotFound
from domain.core.model import Base, Big, JsonList, Key


class HealthKind(StrEnum):
    """What it is about, in the names of the health alerts."""

    AUTHORIZATION_RATE_DROP = "AUTHORIZATION_RATE_DROP"
    TRAFFIC_VOLUME_DROP = "TRAFFIC_VOLUME_DROP"
    METRIC_ANOMALY = "METRIC_ANOMALY"
    COMPONENT_STATUS = "COMPONENT_STATUS"
    SCHEDULED_MAINTENANCE = "SCHEDULED_MAINTENANCE"


class IncidentStatus(StrEnum):
    """As on a Statuspage."""

    INVESTIGATING = "INVESTIGATING"
    IDENTIFIED = "IDENTIFIED"
    MONITORING = "MONITORING"
    RESOLVED = "RESOLVED"
    POSTMORTEM = "POSTMORTEM"
    SCHEDULED = "SCHEDULED"
    IN_PROGRESS = "IN_PROGRESS"
    VERIFYING = "VERIFYING"
    COMPLETED = "COMPLETED"

    @property
    def is_final(self) -> bool:
        return self in (self.RESOLVED, self.POSTMORTEM, self.COMPLETED)


class Impact(StrEnum):
    NONE = "NONE"
    MINOR = "MINOR"
    MAJOR = "MAJOR"
    CRITICAL = "CRITICAL"
    MAINTENANCE = "MAINTENANCE"


class Severity(StrEnum):
    CRITICAL = "CRITICAL"
    NON_CRITICAL = "NON_CRITICAL"


class Origin(StrEnum):
    DETECTED = "DETECTED"
    DECLARED = "DECLARED"
    STATUS_PAGE = "STATUS_PAGE"


class Resolution(StrEnum):
    """How we know that it is over."""

    OBSERVED = "OBSERVED"
    DECLARED = "DECLARED"
    INFERRED = "INFERRED"


class ActorKind(StrEnum):
    PERSON = "PERSON"
    API_KEY = "API_KEY"
    DETECTOR = "DETECTOR"
    STATUS_PAGE = "STATUS_PAGE"
    SYSTEM = "SYSTEM"


@dataclass(frozen=True)
class Actor:
    """Who or what acted; the name is told to all who follow the incident."""

    kind: ActorKind
    name: str


class Incident(Base):
    """Something is wrong, or planned, with services or partners; accounts are affected."""

    __tablename__ = "incidents"
    __table_args__ = (
        # Detectors may race: at most one live incident has one grouping key.
        Index("uq_incidents_live", "grouping_key", unique=True,
              postgresql_where=text("resolved_at IS NULL")),
        Index(None, "started_at", "id"),
    )  # fmt: skip

    id: Mapped[Key]
    kind: Mapped[HealthKind]
    title: Mapped[str]
    summary: Mapped[str]
    status: Mapped[IncidentStatus]
    impact: Mapped[Impact]
    severity: Mapped[Severity]
    origin: Mapped[Origin]
    grouping_key: Mapped[str]
    external_id: Mapped[str | None] = mapped_column(unique=True)
    source_url: Mapped[str | None]
    is_public: Mapped[bool]
    started_at: Mapped[datetime]
    detected_at: Mapped[datetime | None]
    acknowledged_at: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]
    monitoring_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    resolution: Mapped[Resolution | None]
    scheduled_for: Mapped[datetime | None]
    scheduled_until: Mapped[datetime | None]
    next_update_by: Mapped[datetime | None]
    # The partner on whose word it stands; row security lets it link itself to this one alone.
    declared_by_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id"))
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class IncidentUpdate(Base):
    """What was told about an incident at one time."""

    __tablename__ = "incident_updates"
    __table_args__ = (
        UniqueConstraint("incident_id", "external_id"),
        Index(None, "incident_id", "display_at", "id"),
    )

    id: Mapped[Key]
    incident_id: Mapped[UUID] = mapped_column(ForeignKey("incidents.id"))
    external_id: Mapped[str | None]
    status: Mapped[IncidentStatus]
    body: Mapped[str]
    display_at: Mapped[datetime]
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    author_kind: Mapped[ActorKind]
    author_name: Mapped[str]
    affected_components: Mapped[JsonList]


class IncidentAccount(Base):
    """What an incident means for one account: money in minor units of `currency`, at 95 %."""

    __tablename__ = "incident_accounts"

    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(ForeignKey("incidents.id"), primary_key=True, index=True)
    reached_at: Mapped[datetime]
    updated_at: Mapped[datetime]
    traffic_share: Mapped[float | None]
    summary: Mapped[str]
    money_low: Mapped[Big | None]
    money_mid: Mapped[Big | None]
    money_high: Mapped[Big | None]
    currency: Mapped[str]


class IncidentPartner(Base):
    """A partner that an incident is about. An incident about one account alone never has one."""

    __tablename__ = "incident_partners"

    partner_id: Mapped[UUID] = mapped_column(ForeignKey("partners.id"), primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(ForeignKey("incidents.id"), primary_key=True, index=True)


class IncidentService(Base):
    """A service that an incident is about."""

    __tablename__ = "incident_services"

    service_id: Mapped[UUID] = mapped_column(ForeignKey("services.id"), primary_key=True)
    incident_id: Mapped[UUID] = mapped_column(ForeignKey("incidents.id"), primary_key=True, index=True)


class IncidentNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("incident", key)


class IncidentClosed(Conflict):
    def __init__(self, incident: Incident) -> None:
        super().__init__(f"The incident was resolved at {incident.resolved_at:%FT%TZ}.", subject=incident)


class IncidentExists(Conflict):
    def __init__(self, incident: Incident | None) -> None:
        super().__init__("There is a live incident with this grouping key.", subject=incident)

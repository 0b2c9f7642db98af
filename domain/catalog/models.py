"""The catalogue: accounts, the platform's services, its network partners, and what depends on what."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, String, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import NotFound
from domain.core.model import Base, Key


class ComponentStatus(StrEnum):
    """Worst last, as on a Statuspage."""

    OPERATIONAL = "OPERATIONAL"
    UNDER_MAINTENANCE = "UNDER_MAINTENANCE"
    DEGRADED_PERFORMANCE = "DEGRADED_PERFORMANCE"
    PARTIAL_OUTAGE = "PARTIAL_OUTAGE"
    MAJOR_OUTAGE = "MAJOR_OUTAGE"

    @property
    def badness(self) -> int:
        return list(ComponentStatus).index(self)


class PartnerKind(StrEnum):
    CARD_NETWORK = "CARD_NETWORK"
    ISSUER = "ISSUER"
    ACQUIRER = "ACQUIRER"
    BANK = "BANK"
    PROCESSOR = "PROCESSOR"
    WALLET = "WALLET"
    OTHER = "OTHER"


class Account(Base):
    """A merchant. Accounts form a tree; who sees an account sees those below it."""

    __tablename__ = "accounts"
    __table_args__ = (Index(None, "name", "id"),)

    id: Mapped[Key]
    external_id: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    country: Mapped[str] = mapped_column(String(2))
    currency: Mapped[str] = mapped_column(String(3))
    time_zone: Mapped[str]
    merchant_category_code: Mapped[str | None] = mapped_column(String(4))
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    created_at: Mapped[datetime]


class AccountTree(Base):
    """Every account with each of its ancestors and itself: what row security asks."""

    __tablename__ = "account_tree"

    ancestor_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), primary_key=True, index=True)


class Component:
    """What services and partners share: a status, and who says so."""

    id: Mapped[Key]
    code: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    status: Mapped[ComponentStatus] = mapped_column(default=ComponentStatus.OPERATIONAL)
    status_since: Mapped[datetime]
    declared_status: Mapped[ComponentStatus | None]
    created_at: Mapped[datetime]

    def declare(self, status: ComponentStatus, *, at: datetime) -> None:
        """Take over what an operator or its own page says; `status_since` moves only on a change."""
        self.declared_status = status
        if status != self.status:
            self.status, self.status_since = status, at


class Service(Component, Base):
    """A part of the platform, such as payouts."""

    __tablename__ = "services"

    description: Mapped[str | None]
    group: Mapped[str | None]


class Partner(Component, Base):
    """A network partner: a card network, issuer, acquirer or bank."""

    __tablename__ = "partners"

    kind: Mapped[PartnerKind]
    regions: Mapped[list[str]]
    status_page_url: Mapped[str | None]


class Dependency(Base):
    """Part of an account's traffic (`traffic_share`, 0..1) runs through one service or partner."""

    __tablename__ = "dependencies"
    __table_args__ = (
        CheckConstraint("(service_id IS NULL) <> (partner_id IS NULL)", name="one_component"),
        CheckConstraint("traffic_share BETWEEN 0 AND 1", name="share"),
        Index("uq_dependencies_service", "account_id", "service_id", unique=True,
              postgresql_where=text("service_id IS NOT NULL")),
        Index("uq_dependencies_partner", "account_id", "partner_id", unique=True,
              postgresql_where=text("partner_id IS NOT NULL")),
    )  # fmt: skip

    id: Mapped[Key]
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"))
    service_id: Mapped[UUID | None] = mapped_column(ForeignKey("services.id"), index=True)
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id"), index=True)
    traffic_share: Mapped[float]


class AccountNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("account", key)


class ComponentNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("service or partner", key)

"""Who may ask: API keys, and the record of every privileged act."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import DomainError, InvalidInput, NotFound
from domain.core.model import Base, Key


class PrincipalKind(StrEnum):
    MERCHANT = "MERCHANT"
    PARTNER = "PARTNER"
    OPERATOR = "OPERATOR"
    INGEST = "INGEST"


class ApiKey(Base):
    """A credential. Only the hash of its secret is kept; `prefix` finds the row and is shown to people."""

    __tablename__ = "api_keys"
    __table_args__ = (
        # A merchant's or partner's key cannot be widened to more than its owner, whoever writes the row.
        CheckConstraint(
            "(kind = 'MERCHANT') = (account_id IS NOT NULL)"
            " AND (kind = 'PARTNER') = (partner_id IS NOT NULL)",
            name="owner",
        ),
    )

    id: Mapped[Key]
    name: Mapped[str]
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[bytes] = mapped_column(LargeBinary)
    kind: Mapped[PrincipalKind]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id"))
    partner_id: Mapped[UUID | None] = mapped_column(ForeignKey("partners.id"))
    scopes: Mapped[list[str]]
    created_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    expires_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]

    def is_valid(self, at: datetime) -> bool:
        return self.revoked_at is None and (self.expires_at is None or at < self.expires_at)

    def is_first_use(self, at: datetime) -> bool:
        """Whether nothing is known yet of a use in the minute of `at`, or later."""
        return self.last_used_at is None or self.last_used_at < at.replace(second=0, microsecond=0)


class AuditEntry(Base):
    """A privileged act; append-only."""

    __tablename__ = "audit_log"
    __table_args__ = (Index(None, "at", "id"),)

    id: Mapped[Key]
    at: Mapped[datetime]
    actor: Mapped[str]
    action: Mapped[str]
    subject_id: Mapped[UUID | None]
    request_id: Mapped[str]


class IdempotencyKey(Base):
    """What a repeated mutation answers: the object that the first one made."""

    __tablename__ = "idempotency_keys"

    subject: Mapped[str] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    input_hash: Mapped[bytes] = mapped_column(LargeBinary)
    object_id: Mapped[UUID]
    created_at: Mapped[datetime] = mapped_column(index=True)


class Unauthenticated(DomainError):
    """Nobody is known by this credential; the text is the same whatever the reason."""

    code = "UNAUTHENTICATED"

    def __init__(self) -> None:
        super().__init__("The credential is missing, unknown, revoked or expired.")


class ScopeNotAllowed(InvalidInput):
    """A key cannot be given these scopes."""


class ApiKeyNotFound(NotFound):
    def __init__(self, prefix: str) -> None:
        super().__init__("API key with the prefix", prefix)

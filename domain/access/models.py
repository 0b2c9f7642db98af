"""Who may ask: API keys, and the record of every privileged act."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.model import Base, Key


class PrincipalKind(StrEnum):
    MERCHANT = "MERCHANT"
    PARTNER = "PARTNER"
    OPERATOR = "OPERATOR"
    INGEST = "INGEST"


class ApiKey(Base):
    """A credential. Only the hash of its secret is kept; `prefix` finds the row and is shown to people."""

    __tablename__ = "api_keys"

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

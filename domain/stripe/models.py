"""Stripe as it is known here: endpoints that events come to, accounts of theirs and ours, events by id."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

from sqlalchemy import ForeignKey, Index, LargeBinary, text
from sqlalchemy.orm import Mapped, mapped_column

from domain.core.errors import Conflict, DomainError, InvalidInput, NotFound
from domain.core.model import Base, Key


class State(StrEnum):
    """What became of an event: only UNMAPPED and UNRESOLVED ones wait for something."""

    TAKEN = "TAKEN"
    IGNORED = "IGNORED"
    UNMAPPED = "UNMAPPED"
    UNRESOLVED = "UNRESOLVED"
    FAILED = "FAILED"


KEPT = (State.UNMAPPED, State.UNRESOLVED, State.FAILED)
"""The states in which the body of an event is kept."""


class StripeEndpoint(Base):
    """Where one webhook of Stripe points: the platform's own, or that of an account and those below it.

    Secrets are sealed. After a rotation the old one is good for a while, since Stripe signs with both.
    """

    __tablename__ = "stripe_endpoints"

    id: Mapped[Key]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id"), index=True)
    secret: Mapped[bytes] = mapped_column(LargeBinary)
    old_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    old_secret_until: Mapped[datetime | None]
    takes_tests: Mapped[bool]
    created_at: Mapped[datetime]
    removed_at: Mapped[datetime | None]

    def sealed(self, at: datetime) -> list[bytes]:
        """The secrets that are good at that time, the newest first."""
        old = self.old_secret if self.old_secret_until and at < self.old_secret_until else None
        return [self.secret] if old is None else [self.secret, old]


class StripeAccount(Base):
    """An account of Stripe's (`acct_…`), and which of ours it is."""

    __tablename__ = "stripe_accounts"

    id: Mapped[str] = mapped_column(primary_key=True)
    account_id: Mapped[UUID] = mapped_column(ForeignKey("accounts.id"), index=True)
    created_at: Mapped[datetime]


class StripeEvent(Base):
    """An event that came to an endpoint, by the id that Stripe gave it; what comes again changes nothing.

    `payload` is kept while something may still be done with it, or shown of it. `endpoint_id` has no
    foreign key: the endpoint of the settings has no row.
    """

    __tablename__ = "stripe_events"
    __table_args__ = (
        # However many endpoints bring it, it counts once for an account.
        Index(
            "uq_stripe_events_taken",
            "account_id",
            "id",
            unique=True,
            postgresql_where=text("state = 'TAKEN'"),
        ),
        Index("ix_stripe_events_unmapped", "stripe_account", postgresql_where=text("state = 'UNMAPPED'")),
        Index(
            "ix_stripe_events_unresolved", "next_attempt_at", postgresql_where=text("state = 'UNRESOLVED'")
        ),
        Index(None, "received_at"),
    )

    endpoint_id: Mapped[UUID] = mapped_column(primary_key=True)
    id: Mapped[str] = mapped_column(primary_key=True)
    type: Mapped[str]
    state: Mapped[State]
    is_live: Mapped[bool]
    stripe_account: Mapped[str | None]
    account_id: Mapped[UUID | None] = mapped_column(ForeignKey("accounts.id"))
    created_at: Mapped[datetime]
    received_at: Mapped[datetime]
    payload: Mapped[bytes | None] = mapped_column(LargeBinary)
    remark: Mapped[str | None]
    attempts: Mapped[int] = mapped_column(default=0, server_default="0")
    next_attempt_at: Mapped[datetime | None]


class EndpointNotFound(NotFound):
    def __init__(self, key: object) -> None:
        super().__init__("Stripe endpoint", key)


class SignatureRefused(DomainError):
    """The body was not signed by Stripe with a secret of the endpoint, or not lately."""

    code = "SIGNATURE_REFUSED"


class NoEvent(DomainError):
    """The body is not an event of Stripe's."""

    code = "MALFORMED_REQUEST"


class SecretUnfit(InvalidInput):
    """A signing secret that Stripe cannot have given."""


class SecretUnreadable(Conflict):
    """A secret cannot be sealed or opened with the keys that this process has."""

    code = "SECRET_UNREADABLE"

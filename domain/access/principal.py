"""Who is asking: what every predicate, scope and audit entry is derived from."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from domain.access.models import PrincipalKind


@dataclass(frozen=True)
class Principal:
    """One key. `account_ids` are a merchant's account and all below it; `subject` names it in audits."""

    kind: PrincipalKind
    subject: str
    name: str
    scopes: frozenset[str]
    key_id: UUID
    account_id: UUID | None = None
    account_ids: tuple[UUID, ...] = ()
    partner_id: UUID | None = None

    @property
    def scope(self) -> str:
        """The value of `vitals.scope` for this principal's transactions: the wall behind every predicate."""
        match self.kind:
            case PrincipalKind.OPERATOR:
                return "operator"
            case PrincipalKind.MERCHANT:
                return f"account:{self.account_id}"
            case PrincipalKind.PARTNER:
                return f"partner:{self.partner_id}"
            case PrincipalKind.INGEST:
                return f"ingest:{self.key_id}"

    @property
    def stream(self) -> str:
        """The stream of events that this principal follows; an ingest key has none and finds nothing."""
        return self.scope

    def binds(self) -> dict[str, Any]:
        """The named bind parameters that every `visible()` predicate takes its values from."""
        return {"principal_account_ids": list(self.account_ids), "principal_partner_id": self.partner_id}

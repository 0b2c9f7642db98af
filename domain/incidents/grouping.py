"""Grouping keys: what counts as the same trouble. One live incident has one grouping key.

A key of trouble that one account alone has holds that account, so that accounts never share it.
"""

import hashlib
from collections.abc import Iterable
from uuid import UUID

from domain.incidents.models import HealthKind

_ACCOUNT, _PARTNER, _STATUS_PAGE, _DECLARED = "account", "partner", "status_page", "declared"


def of_account(account_id: UUID, kind: HealthKind) -> str:
    return f"{_ACCOUNT}:{account_id}:{kind}"


def of_partner(partner_id: UUID, kind: HealthKind) -> str:
    return f"{_PARTNER}:{partner_id}:{kind}"


def of_status_page(partner_id: UUID, external_id: str) -> str:
    """A partner's page tells its incidents apart itself: several may be live at once."""
    return f"{_STATUS_PAGE}:{partner_id}:{external_id}"


def declared(kind: HealthKind, component_ids: Iterable[UUID]) -> str:
    """The same for the same components, in whatever order they are named."""
    names = ",".join(sorted({str(component_id) for component_id in component_ids}))
    return f"{_DECLARED}:{kind}:{hashlib.sha256(names.encode()).hexdigest()[:32]}"


def is_of_account(key: str) -> bool:
    """Whether the trouble is one account's alone: no partner is told of it."""
    return key.startswith(f"{_ACCOUNT}:")


def is_ours(key: str) -> bool:
    """Whether it looks like one made here: who gave it as his own would be joined by what is not his."""
    return key.partition(":")[0] in (_ACCOUNT, _PARTNER, _STATUS_PAGE, _DECLARED)

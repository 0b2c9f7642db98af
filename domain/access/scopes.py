"""What a key may be allowed to do: a kind of principal has its own scopes, and none beyond them."""

from collections.abc import Iterable, Mapping

from domain.access.models import PrincipalKind, ScopeNotAllowed

READING = frozenset(
    {"accounts:read", "status:read", "telemetry:read", "incidents:read", "insights:read"}
)  # of what the principal sees: a scope opens a field, it never shows another tenant's rows

ALLOWED: Mapping[PrincipalKind, frozenset[str]] = {
    PrincipalKind.MERCHANT: READING | {"insights:write", "telemetry:write"},
    PrincipalKind.PARTNER: READING | {"incidents:write", "status:write"},
    PrincipalKind.OPERATOR: READING
    | {"incidents:write", "insights:write", "status:write", "telemetry:write"},
    PrincipalKind.INGEST: frozenset({"status:write", "telemetry:write"}),
}

# A merchant's key is made for reading on its people's behalf: sending telemetry must be asked for.
DEFAULT: Mapping[PrincipalKind, frozenset[str]] = {
    **ALLOWED,
    PrincipalKind.MERCHANT: READING | {"insights:write"},
}


def granted(kind: PrincipalKind, wanted: Iterable[str] | None = None) -> list[str]:
    """The scopes of a new key, in order: those `wanted`, or the kind's default. Raises ScopeNotAllowed."""
    scopes = DEFAULT[kind] if wanted is None else frozenset(wanted)
    beyond = sorted(scopes - ALLOWED[kind])
    if beyond or not scopes:
        named = f"cannot have {', '.join(beyond)}" if beyond else "must have at least one scope"
        allowed = ", ".join(sorted(ALLOWED[kind]))
        raise ScopeNotAllowed(f"A key of kind {kind} {named}; its scopes are {allowed}.", path=("scopes",))
    return sorted(scopes)

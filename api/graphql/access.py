"""The scope that a field needs: declared on it, printed in the schema, checked before its resolver."""

import inspect
from collections.abc import Callable
from typing import Any

import strawberry
from strawberry.extensions import FieldExtension
from strawberry.schema_directive import Location
from strawberry.types.field import StrawberryField

from api.graphql.context import Info
from api.graphql.errors import Forbidden
from domain.access.models import PrincipalKind

READERS = [PrincipalKind.MERCHANT, PrincipalKind.PARTNER, PrincipalKind.OPERATOR]

SCOPE_OF = {
    "Account": "accounts:read",
    "Service": "status:read",
    "Partner": "status:read",
    "Series": "telemetry:read",
    "Forecast": "telemetry:read",
    "Anomaly": "telemetry:read",
    "Job": "telemetry:read",
    "Incident": "incidents:read",
    "IncidentUpdate": "incidents:read",
    "IncidentChange": "incidents:read",
    "Insight": "insights:read",
}
"""What it takes to be given an object of each type, by whatever path."""


@strawberry.schema_directive(
    locations=[Location.FIELD_DEFINITION],
    name="access",
    description="The scope that this field needs, and for writes and streams the kinds of principal that"
    " can hold it (by default all but INGEST); without it the field fails with FORBIDDEN. A root field"
    " without this directive needs only a valid key.",
)
class AccessDirective:
    scope: str
    principals: list[PrincipalKind] | None = strawberry.UNSET


class Access(FieldExtension):
    """`extensions=[Access("incidents:read")]` on a field."""

    def __init__(self, scope: str, *principals: PrincipalKind) -> None:
        self.scope = scope
        self.principals = list(principals) or READERS

    def apply(self, field: StrawberryField) -> None:
        named = strawberry.UNSET if self.principals is READERS else self.principals
        directive = AccessDirective(scope=self.scope, principals=named)
        if not any(isinstance(one, AccessDirective) for one in field.directives):
            field.directives = [*field.directives, directive]

    def check(self, info: Info) -> None:
        principal = info.context.principal
        if self.scope not in principal.scopes:
            raise Forbidden(f"This key lacks the scope {self.scope}.")
        if principal.kind not in self.principals:
            raise Forbidden(f"Keys of kind {principal.kind} cannot do this.")

    def resolve(self, next_: Callable[..., Any], source: Any, info: Info, **kwargs: Any) -> Any:
        self.check(info)
        return next_(source, info, **kwargs)

    async def resolve_async(self, next_: Callable[..., Any], source: Any, info: Info, **kwargs: Any) -> Any:
        self.check(info)
        result = next_(source, info, **kwargs)
        # A subscription's resolver makes a stream of results, not one to wait for.
        return await result if inspect.isawaitable(result) else result


def may_read(info: Info, kind: str) -> bool:
    return SCOPE_OF[kind] in info.context.principal.scopes

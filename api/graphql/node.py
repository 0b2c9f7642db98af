"""Objects with a global id, and the roots that fetch any of them."""

from collections.abc import Callable
from typing import Any

import strawberry

from api.graphql import ids
from api.graphql.access import may_read
from api.graphql.context import Info
from domain.core.errors import InvalidInput


def rows(*models: type) -> Callable[[Any, Any], bool]:
    """`is_type_of` of a type whose objects are rows of `models`."""
    return staticmethod(lambda row, _info: isinstance(row, models))


@strawberry.interface(
    name="Node",
    description="An object that can be fetched by its global ID. IDs are opaque and stay valid for the"
    " life of the object.",
)
class NodeType:
    @strawberry.field(description="Global ID.")
    def id(root: strawberry.Parent[Any]) -> strawberry.ID:
        return ids.of(root)


LOADER_OF = {
    "Account": "accounts",
    "Service": "services",
    "Partner": "partners",
    "Series": "series",
    "Forecast": "forecasts",
    "Anomaly": "anomalies",
    "Job": "jobs",
    "Incident": "incidents",
    "IncidentUpdate": "updates",
    "IncidentChange": "changes",
    "Insight": "insights",
}


async def load(info: Info, text: str) -> Any:
    """The row with this id, None where it does not exist for the principal or its scope is lacking."""
    found = ids.decode(text)
    if found is None or found[0] not in LOADER_OF or not may_read(info, found[0]):
        return None
    return await getattr(info.context.loaders, LOADER_OF[found[0]]).load(found[1])


@strawberry.type
class NodeQuery:
    @strawberry.field(
        graphql_type=NodeType | None,
        description="Any object; null when it does not exist for this principal, or the scope for its type"
        " is lacking.",
    )
    async def node(self, info: Info, id: strawberry.ID) -> Any:
        return await load(info, id)

    @strawberry.field(
        graphql_type=list[NodeType | None],
        description="Up to 100 objects in the order of `ids`, null for each that does not exist for this"
        " principal.",
    )
    async def nodes(self, info: Info, ids: list[strawberry.ID]) -> list[Any]:
        if len(ids) > 100:
            raise InvalidInput(f"At most 100 ids can be given, not {len(ids)}.", path=("ids",))
        # Fields of one level run concurrently: the items must not wait for one another, or none is batched.
        return [load(info, one) for one in ids]

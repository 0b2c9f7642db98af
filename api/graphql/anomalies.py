"""Anomalies, as they are published."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated

import strawberry

from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.incidents import IncidentType
from api.graphql.node import NodeType, rows
from api.graphql.scalars import SafeInt
from domain.anomalies.models import Anomaly, Direction
from domain.incidents.models import Incident
from domain.telemetry.models import Series

if TYPE_CHECKING:
    from api.graphql.telemetry import SeriesType

LazySeries = Annotated["SeriesType", strawberry.lazy("api.graphql.telemetry")]
LEVEL = 0.95


@strawberry.type(description="Where a value lies with probability `level`.")
class Interval:
    lower: float
    upper: float
    level: float


@strawberry.type(
    name="Anomaly",
    description="A stretch in which a series left its expectation. Its figures are those from its start"
    " until it was last judged.",
)
class AnomalyType(NodeType):
    is_type_of = rows(Anomaly)

    started_at: datetime
    detected_at: datetime
    ended_at: datetime | None = strawberry.field(description="Null while it lasts.")
    direction: Direction
    score: float = strawberry.field(description="How far from the expectation, at the worst.")
    observed: float
    expected: float
    sample_size: SafeInt = strawberry.field(description="Events behind what was observed.")
    detector: str = strawberry.field(description="An open set.")

    @strawberry.field(graphql_type=LazySeries)
    async def series(root: strawberry.Parent[Anomaly], info: Info) -> Series | None:
        return await info.context.loaders.series.load(root.series_id)

    @strawberry.field(description="Of the expectation, at 95 %.")
    def interval(root: strawberry.Parent[Anomaly]) -> Interval:
        return Interval(lower=root.lower, upper=root.upper, level=LEVEL)

    @strawberry.field(
        graphql_type=IncidentType | None,
        extensions=[Access("incidents:read")],
        description="The incident it belongs to; null when it did not open or join one that the principal"
        " may see.",
    )
    async def incident(root: strawberry.Parent[Anomaly], info: Info) -> Incident | None:
        return await info.context.loaders.incidents.load(root.incident_id) if root.incident_id else None

"""The schema: its roots put together, its scalars, its limits. `python -m api.graphql.schema` prints it."""

import sys
from collections.abc import AsyncIterator
from typing import Any

import strawberry
from strawberry.extensions import SchemaExtension
from strawberry.schema.config import StrawberryConfig
from strawberry.tools import merge_types
from strawberry.types import StreamExecutionResult

from api.graphql.catalog import CatalogQuery
from api.graphql.consumers import ConsumerMutation
from api.graphql.errors import ToldErrors
from api.graphql.feed import FeedQuery, Heartbeat, IncidentChange, StreamGap
from api.graphql.forecasts import ForecastMutation
from api.graphql.incident_mutations import IncidentMutation
from api.graphql.incidents import IncidentQuery
from api.graphql.insight_mutations import InsightMutation
from api.graphql.insights import InsightQuery
from api.graphql.limits import Limits
from api.graphql.node import NodeQuery
from api.graphql.refusals import HANDLERS
from api.graphql.scalars import SCALARS
from api.graphql.subscription import Subscription
from api.graphql.telemetry import TelemetryQuery
from api.graphql.viewer import ViewerQuery

Query = merge_types(
    "Query",
    (ViewerQuery, NodeQuery, CatalogQuery, TelemetryQuery, IncidentQuery, FeedQuery, InsightQuery),
)
Mutation = merge_types("Mutation", (IncidentMutation, ConsumerMutation, InsightMutation, ForecastMutation))


class Operation(SchemaExtension):
    """Gives back the operation's connection: between the results of a stream, and in the end."""

    async def on_operation(self) -> AsyncIterator[None]:
        # Operations of one socket run side by side, each with a context of its own.
        self.execution_context.context = self.execution_context.context.fresh()
        try:
            yield
        finally:
            await self.execution_context.context.close()

    async def on_stream_result(self, result: StreamExecutionResult) -> AsyncIterator[None]:
        await self.execution_context.context.close()
        yield


class Schema(strawberry.Schema):
    def process_errors(self, errors: list[Any], execution_context: Any = None) -> None:
        """Errors are logged where they are told to the client, with the request's id."""


schema = Schema(
    query=Query,
    mutation=Mutation,
    subscription=Subscription,
    types=[IncidentChange, StreamGap, Heartbeat],
    extensions=[Operation, ToldErrors, Limits],
    exception_handlers=HANDLERS,
    config=StrawberryConfig(scalar_map=SCALARS),
)


if __name__ == "__main__":
    sys.stdout.write(f"{schema.as_str()}\n")

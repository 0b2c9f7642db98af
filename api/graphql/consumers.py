"""Named readers of the feed, and how far each has come."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import strawberry

from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.refusals import InvalidInputType
from api.graphql.scalars import SafeInt
from domain.delivery import consumers
from domain.delivery import queries as delivery
from domain.delivery.models import StreamConsumer


@strawberry.type(name="StreamConsumer", description="A named reader of the feed.")
class StreamConsumerType:
    name: str = strawberry.field(description="Unique among the readers of the same stream.")
    acknowledged_sequence: SafeInt = strawberry.field(description="The last event that it has dealt with.")
    acknowledged_at: datetime

    @strawberry.field(description="Opaque; `after` this, or `consumer`, resumes behind it.")
    def acknowledged_cursor(root: strawberry.Parent[StreamConsumer]) -> str:
        return delivery.encode(root.stream, root.acknowledged_sequence)

    @strawberry.field(description="Events that it has yet to acknowledge.")
    async def lag(root: strawberry.Parent[StreamConsumer], info: Info) -> SafeInt:
        latest = await info.context.loaders.latest_sequences.load(root.stream)
        return SafeInt(max(0, latest - root.acknowledged_sequence))


async def of_viewer(info: Info) -> Sequence[StreamConsumer]:
    async with info.context.read() as session:
        return await consumers.of_stream(session, info.context.principal.stream)


@strawberry.type(description="The reader as it is now.")
class ConsumerSuccess:
    consumer: StreamConsumerType


@strawberry.input(description="What a reader has dealt with: everything up to `cursor`.")
class AcknowledgeIncidentEventsInput:
    consumer: str = strawberry.field(description="Its name, up to 200 characters; made at its first use.")
    cursor: str


AcknowledgeIncidentEventsResult = Annotated[
    ConsumerSuccess | InvalidInputType, strawberry.union("AcknowledgeIncidentEventsResult")
]


@strawberry.type
class ConsumerMutation:
    @strawberry.mutation(
        graphql_type=AcknowledgeIncidentEventsResult,
        extensions=[Access("incidents:read")],
        description="Moves a named consumer's place forward; never back.",
    )
    async def acknowledge_incident_events(
        self, info: Info, input: AcknowledgeIncidentEventsInput
    ) -> ConsumerSuccess:
        context = info.context
        async with context.transaction() as session:
            row = await consumers.acknowledge(
                session, context.principal.stream, input.consumer, input.cursor, at=context.now
            )
        return ConsumerSuccess(consumer=row)  # type: ignore[arg-type]  # a row stands for its type

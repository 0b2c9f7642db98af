"""What can be subscribed to."""

from collections.abc import AsyncGenerator
from datetime import timedelta
from typing import Any

import strawberry

from api.graphql import filters
from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.feed import IncidentEventType
from api.graphql.following import Follower


@strawberry.type(
    description="Over graphql-transport-ws. Events arrive at least once, in order; a repeated one has the"
    " same cursor. A key that is revoked ends its sockets within 10 seconds; a reader that is too slow is"
    " cut off and told."
)
class Subscription:
    @strawberry.subscription(
        graphql_type=IncidentEventType,
        extensions=[Access("incidents:read")],
        description="Incident events from after the cursor `after`, then live, without a seam. With"
        " `consumer` and no `after` it resumes where that reader last acknowledged; with neither it starts"
        " now. Each item is an IncidentChange, a StreamGap where retention made a hole, or, only where"
        " `heartbeatEvery` (PT5S to PT5M) asks for it, a Heartbeat when nothing else was sent for that long.",
    )
    async def incident_updates(
        self,
        info: Info,
        after: str | None = None,
        filter: filters.IncidentFilter | None = None,
        consumer: str | None = None,
        heartbeat_every: timedelta | None = None,
    ) -> AsyncGenerator[Any, None]:
        follower = Follower(info.context, filter, heartbeat_every)
        await follower.begin(after, consumer=consumer)
        return _counted(info, follower)


async def _counted(info: Info, follower: Follower) -> AsyncGenerator[Any, None]:
    metrics = info.context.process.metrics
    metrics.add("vitals_subscriptions")
    try:
        async for item in follower.items():
            yield item
    finally:
        metrics.add("vitals_subscriptions", -1)

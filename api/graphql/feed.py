"""The feed of incidents: its items, read page by page, or followed as they happen."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import strawberry

from api.graphql import filters, following, ids
from api.graphql.access import Access
from api.graphql.actors import ActorType
from api.graphql.context import Info
from api.graphql.following import GapRow, HeartbeatRow
from api.graphql.incidents import IncidentType, IncidentUpdateType
from api.graphql.money import MoneyRange, money_range
from api.graphql.node import NodeType, rows
from api.graphql.paging import PageInfo
from api.graphql.scalars import SafeInt
from domain.core.paging import Page
from domain.delivery import queries as delivery
from domain.delivery.queries import GapReason, Told
from domain.incidents import feed
from domain.incidents.models import (
    Actor,
    ActorKind,
    Impact,
    Incident,
    IncidentStatus,
    IncidentUpdate,
    Severity,
)

Item = Told | GapRow | HeartbeatRow


@strawberry.interface(
    name="IncidentEvent",
    description="One item of the feed; the simplest reader selects these fields and needs no fragment."
    " `after: cursor` resumes behind it. A stream is an audience (operators, each account, each partner),"
    " and each has its own contiguous `sequence`: without a filter, a number that is missing is a loss,"
    " and a loss is always told by a StreamGap. An incident's events arrive in order.",
)
class IncidentEventType:
    sequence: SafeInt
    at: datetime

    @strawberry.field(description="Opaque; `after` this resumes behind this item.")
    def cursor(root: strawberry.Parent[Item], info: Info) -> str:
        return delivery.encode(info.context.principal.stream, root.sequence)

    @strawberry.field(
        graphql_type=IncidentType | None,
        description="As it is now. Null only in StreamGap and Heartbeat.",
    )
    async def incident(root: strawberry.Parent[Item], info: Info) -> Incident | None:
        return await info.context.loaders.incidents.load(root.subject_id) if isinstance(root, Told) else None

    @strawberry.field(
        graphql_type=IncidentUpdateType | None,
        description="The update that was posted, where there was one.",
    )
    async def update(root: strawberry.Parent[Item], info: Info) -> IncidentUpdate | None:
        posted = feed.posted(root) if isinstance(root, Told) else None
        return await info.context.loaders.updates.load(UUID(posted["id"])) if posted else None


@strawberry.enum(description="UPDATED: an update was posted that is none of the others.")
class IncidentChangeType(StrEnum):
    OPENED = "OPENED"
    UPDATED = "UPDATED"
    IMPACT_CHANGED = "IMPACT_CHANGED"
    ACKNOWLEDGED = "ACKNOWLEDGED"
    REOPENED = "REOPENED"
    RESOLVED = "RESOLVED"
    POSTMORTEM_PUBLISHED = "POSTMORTEM_PUBLISHED"


@strawberry.type(
    name="IncidentChange",
    description="Something happened to an incident. `incident` is as it is now; what it was at this event"
    " is in `status`, `impact`, `severity`.",
)
class IncidentChange(IncidentEventType, NodeType):
    is_type_of = rows(Told)

    @strawberry.field(description="Global ID, the same wherever the event is told.")
    def id(root: strawberry.Parent[Told]) -> strawberry.ID:
        return ids.encode("IncidentChange", root.event_id)

    @strawberry.field(
        description="Counts the events of this incident in this stream, from 1 and without a hole."
    )
    def version(root: strawberry.Parent[Told]) -> int:
        return root.version

    @strawberry.field
    def type(root: strawberry.Parent[Told]) -> IncidentChangeType:
        return IncidentChangeType(root.type)

    @strawberry.field(graphql_type=ActorType)
    def actor(root: strawberry.Parent[Told]) -> Actor:
        actor = root.payload["actor"]
        return Actor(ActorKind(actor["kind"]), actor["name"])

    @strawberry.field
    def status(root: strawberry.Parent[Told]) -> IncidentStatus:
        return IncidentStatus(root.payload["status"])

    @strawberry.field
    def impact(root: strawberry.Parent[Told]) -> Impact:
        return Impact(root.payload["impact"])

    @strawberry.field
    def severity(root: strawberry.Parent[Told]) -> Severity:
        return Severity(root.payload["severity"])

    @strawberry.field(
        description="Of the account that the event is about, at this event; null where it is about none,"
        " and until it can be said."
    )
    def money_at_risk(root: strawberry.Parent[Told]) -> MoneyRange | None:
        account = root.payload.get("account")
        if not account:
            return None
        amounts = (account["money_low"], account["money_mid"], account["money_high"])
        return money_range(*amounts, account["currency"])


@strawberry.type(
    name="StreamGap",
    description="Events `from` to `to` (sequences, inclusive) can no longer be had; `sequence` is `to`."
    " Read the present state with `incidents`, then go on.",
)
class StreamGap(IncidentEventType):
    is_type_of = rows(GapRow)

    reason: GapReason

    @strawberry.field(name="from")
    def from_(root: strawberry.Parent[GapRow]) -> SafeInt:
        return SafeInt(root.first)

    @strawberry.field
    def to(root: strawberry.Parent[GapRow]) -> SafeInt:
        return SafeInt(root.sequence)


@strawberry.type(
    name="Heartbeat",
    description="Nothing happened; `cursor` is a safe place to resume. `latestSequence` ahead of"
    " `sequence` means that more is on its way.",
)
class Heartbeat(IncidentEventType):
    is_type_of = rows(HeartbeatRow)

    latest_sequence: SafeInt


@dataclass(frozen=True)
class EventPage:
    """Items of the feed up to `sequence`, which the next page begins behind."""

    items: Sequence[Item]
    sequence: int
    latest_sequence: int
    has_previous: bool


@strawberry.type(description="An item of the feed and its cursor.")
class IncidentEventEdge:
    @strawberry.field
    def cursor(root: strawberry.Parent[Item], info: Info) -> str:
        return delivery.encode(info.context.principal.stream, root.sequence)

    @strawberry.field(graphql_type=IncidentEventType)
    def node(root: strawberry.Parent[Item]) -> Any:
        return root


@strawberry.type(
    description="A page of the feed. `pageInfo.endCursor` is where it was read to, also where that is"
    " nothing, so that polling can go on from it; with a filter a page may hold fewer than asked for and"
    " still not be the last."
)
class IncidentEventConnection:
    latest_sequence: SafeInt

    @strawberry.field(graphql_type=list[IncidentEventEdge])
    def edges(root: strawberry.Parent[EventPage]) -> list[Any]:
        return list(root.items)

    @strawberry.field
    def page_info(root: strawberry.Parent[EventPage], info: Info) -> PageInfo:
        stream = info.context.principal.stream
        return PageInfo(
            has_next_page=root.sequence < root.latest_sequence,
            has_previous_page=root.has_previous,
            start_cursor=delivery.encode(stream, root.items[0].sequence) if root.items else None,
            end_cursor=delivery.encode(stream, root.sequence),
        )


@strawberry.type
class FeedQuery:
    @strawberry.field(
        graphql_type=IncidentEventConnection,
        extensions=[Access("incidents:read")],
        description="The feed, oldest first: the same events, ids and cursors as"
        " `Subscription.incidentUpdates`. `after` null begins at the oldest kept event; a cursor older"
        " than that gives a StreamGap first.",
    )
    async def incident_events(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        filter: filters.IncidentFilter | None = None,
    ) -> EventPage:
        context, page = info.context, Page.of(first, after)
        async with context.read() as session:
            start = await delivery.start(session, context.principal.stream, page.cursor)
            latest = await delivery.latest_sequence(session, context.principal.stream)
            gap = [following.gap(start, at=context.now)] if start.gap else []
            read = await following.read(
                session, context.asked(filter), context.principal, start.sequence, limit=page.size - len(gap)
            )
        return EventPage([*gap, *read.events], read.sequence, latest, has_previous=after is not None)

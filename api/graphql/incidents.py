"""Incidents, and what was told about them, as they are published."""

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import strawberry

from api.graphql import filters, ids, lists
from api.graphql.access import Access
from api.graphql.actors import ActorType
from api.graphql.batching import Ask
from api.graphql.catalog import ComponentType, PartnerType, ServiceType
from api.graphql.context import Info
from api.graphql.incident_accounts import IncidentAccountConnection
from api.graphql.money import MoneyRange, money_range
from api.graphql.node import NodeType, rows
from api.graphql.paging import Connection, page_of
from api.graphql.scalars import URL
from domain.anomalies.models import Anomaly
from domain.catalog.models import ComponentStatus, Partner, Service
from domain.core.paging import Page, Slice
from domain.incidents.models import (
    Actor,
    HealthKind,
    Impact,
    Incident,
    IncidentAccount,
    IncidentStatus,
    IncidentUpdate,
    Origin,
    Resolution,
    Severity,
)
from domain.insights.models import Insight

if TYPE_CHECKING:
    from api.graphql.anomalies import AnomalyType
    from api.graphql.insights import InsightType

LazyAnomaly = Annotated["AnomalyType", strawberry.lazy("api.graphql.anomalies")]
LazyInsight = Annotated["InsightType", strawberry.lazy("api.graphql.insights")]
LazyIncident = Annotated["IncidentType", strawberry.lazy("api.graphql.incidents")]


@strawberry.type(description="What became of a component's status.")
class ComponentChange:
    component: ComponentType
    from_: ComponentStatus = strawberry.field(name="from")
    to: ComponentStatus


@strawberry.type(name="IncidentUpdate", description="What was told about an incident at one time.")
class IncidentUpdateType(NodeType):
    is_type_of = rows(IncidentUpdate)

    status: IncidentStatus
    body: str = strawberry.field(description="CommonMark.")
    display_at: datetime = strawberry.field(
        description="Shown as the time of the update; may be set by the author."
    )
    created_at: datetime

    @strawberry.field(graphql_type=LazyIncident)
    async def incident(root: strawberry.Parent[IncidentUpdate], info: Info) -> Incident | None:
        return await info.context.loaders.incidents.load(root.incident_id)

    @strawberry.field(graphql_type=ActorType)
    def author(root: strawberry.Parent[IncidentUpdate]) -> Actor:
        return Actor(root.author_kind, root.author_name)

    @strawberry.field(
        extensions=[Access("status:read")],
        description="Of the components that the principal may see, by name.",
    )
    async def affected_components(
        root: strawberry.Parent[IncidentUpdate], info: Info
    ) -> list[ComponentChange]:
        found = await asyncio.gather(*(component(info, change["id"]) for change in root.affected_components))
        changes = [
            ComponentChange(
                component=row,
                from_=ComponentStatus(change["from"]),
                to=ComponentStatus(change["to"]),
            )
            for row, change in zip(found, root.affected_components, strict=True)
            if row is not None
        ]
        return sorted(changes, key=lambda change: change.component.name)


async def component(info: Info, key: str) -> Any:
    """The service or partner with this key, None where the principal may not see it."""
    loaders = info.context.loaders
    service, partner = await asyncio.gather(
        loaders.services.load(UUID(key)), loaders.partners.load(UUID(key))
    )
    return service or partner


@strawberry.type(
    name="Incident",
    description="Something is wrong, or planned, with services or partners; accounts are affected. At most"
    " one live incident has one grouping key.",
)
class IncidentType(NodeType):
    is_type_of = rows(Incident)

    kind: HealthKind
    title: str
    summary: str = strawberry.field(description="What is known now, in one or two plain sentences.")
    status: IncidentStatus
    impact: Impact
    severity: Severity
    origin: Origin
    grouping_key: str = strawberry.field(description="What makes it the same incident. An open set.")
    source_url: URL | None = strawberry.field(
        description="Its page elsewhere, where it came from a status page."
    )
    started_at: datetime
    detected_at: datetime | None = strawberry.field(
        description="When a detector found it; null where none did."
    )
    acknowledged_at: datetime | None = strawberry.field(description="When somebody took charge.")
    monitoring_at: datetime | None
    resolved_at: datetime | None = strawberry.field(
        description="Null while open; a reopened incident has null again."
    )
    resolution: Resolution | None = strawberry.field(
        description="How it is known to be over; null while open."
    )
    scheduled_for: datetime | None = strawberry.field(description="Planned window; null unless maintenance.")
    scheduled_until: datetime | None
    next_update_by: datetime | None = strawberry.field(
        description="The promise of the next update; null when none was made."
    )

    @strawberry.field(description="The promise of the next update has lapsed.")
    def is_update_overdue(root: strawberry.Parent[Incident], info: Info) -> bool:
        return root.next_update_by is not None and root.next_update_by < info.context.now

    @strawberry.field(description="From `startedAt` to `detectedAt`; null until then.")
    def time_to_detect(root: strawberry.Parent[Incident]) -> timedelta | None:
        return _since_start(root, root.detected_at)

    @strawberry.field(description="From `startedAt` to `acknowledgedAt`; null until then.")
    def time_to_acknowledge(root: strawberry.Parent[Incident]) -> timedelta | None:
        return _since_start(root, root.acknowledged_at)

    @strawberry.field(description="From `startedAt` to `resolvedAt`; null until then.")
    def time_to_resolve(root: strawberry.Parent[Incident]) -> timedelta | None:
        return _since_start(root, root.resolved_at)

    @strawberry.field(
        graphql_type=list[ServiceType],
        extensions=[Access("status:read")],
        description="Affected services, by name.",
    )
    async def services(root: strawberry.Parent[Incident], info: Info) -> list[Service]:
        found: list[Service] = await info.context.loaders.services_by_incident.load(root.id)
        return found[:100]

    @strawberry.field(
        graphql_type=list[PartnerType],
        extensions=[Access("status:read")],
        description="Affected partners that the principal may see, by name.",
    )
    async def partners(root: strawberry.Parent[Incident], info: Info) -> list[Partner]:
        found: list[Partner] = await info.context.loaders.partners_by_incident.load(root.id)
        return found[:100]

    @strawberry.field(
        graphql_type=IncidentAccountConnection,
        extensions=[Access("accounts:read")],
        description="Affected accounts that the principal may see, largest share of traffic first; always"
        " empty for partners.",
    )
    async def accounts(
        root: strawberry.Parent[Incident], info: Info, first: int | None = None, after: str | None = None
    ) -> tuple[Incident, Slice[IncidentAccount]]:
        ask = Ask(root.id, Page.of(first, after))
        return root, await info.context.loaders.accounts_by_incident.load(ask)

    @strawberry.field(
        graphql_type=Connection[IncidentUpdateType],
        description="Oldest first; `last: 3` gives the latest three.",
    )
    async def updates(
        root: strawberry.Parent[Incident],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
    ) -> Slice[IncidentUpdate]:
        ask = Ask(root.id, Page.of(first, after, last, before))
        return await info.context.loaders.updates_by_incident.load(ask)

    @strawberry.field(
        description="Expected less observed over the accounts that the principal may see; while open so"
        " far, after resolution the total. Null for partners, where it cannot be said, and where the"
        " accounts do not share one currency."
    )
    async def money_at_risk(root: strawberry.Parent[Incident], info: Info) -> MoneyRange | None:
        sums = await info.context.loaders.money_by_incident.load(root.id)
        if sums is None or sums.currencies != 1:
            return None
        return money_range(sums.low, sums.mid, sums.high, sums.currency)

    @strawberry.field(
        graphql_type=Connection[LazyAnomaly],
        extensions=[Access("telemetry:read")],
        description="The evidence, worst first, of series the principal may see.",
    )
    async def anomalies(
        root: strawberry.Parent[Incident], info: Info, first: int | None = None, after: str | None = None
    ) -> Slice[Anomaly]:
        ask = Ask(root.id, Page.of(first, after))
        return await info.context.loaders.anomalies_by_incident.load(ask)

    @strawberry.field(
        graphql_type=Connection[LazyInsight],
        extensions=[Access("insights:read")],
        description="Insights that come from it, highest rank first.",
    )
    async def insights(
        root: strawberry.Parent[Incident], info: Info, first: int | None = None, after: str | None = None
    ) -> Slice[Insight]:
        ask = Ask(root.id, Page.of(first, after))
        return await info.context.loaders.insights_by_incident.load(ask)


def _since_start(incident: Incident, at: datetime | None) -> timedelta | None:
    return at - incident.started_at if at is not None else None


@strawberry.type
class IncidentQuery:
    @strawberry.field(
        graphql_type=IncidentType | None,
        extensions=[Access("incidents:read")],
        description="Null when it does not exist for this principal.",
    )
    async def incident(self, info: Info, id: strawberry.ID) -> Incident | None:
        key = ids.key(id, "Incident")
        return await info.context.loaders.incidents.load(key) if key else None

    @strawberry.field(
        graphql_type=Connection[IncidentType],
        extensions=[Access("incidents:read")],
        description="Every incident that the principal may see, latest start first unless `orderBy` says"
        " otherwise.",
    )
    async def incidents(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.IncidentFilter | None = None,
        order_by: filters.IncidentOrder | None = None,
    ) -> Slice[Incident]:
        listing = lists.all_incidents(info.context.asked(filter, order_by))
        return await page_of(info, listing, Page.of(first, after, last, before))

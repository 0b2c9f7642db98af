"""Accounts, services, partners, and what depends on what, as they are published."""

from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import strawberry

from api.graphql import filters, ids, lists
from api.graphql.access import Access
from api.graphql.batching import Ask
from api.graphql.context import Info
from api.graphql.money import Money, money
from api.graphql.node import NodeType, rows
from api.graphql.paging import Connection, EdgeRow, PageInfo, page_info, page_of
from api.graphql.scalars import URL, Currency
from domain.catalog.models import Account, ComponentStatus, Dependency, Partner, PartnerKind, Service
from domain.core.paging import Page, Slice
from domain.incidents.models import Incident
from domain.insights.models import Insight
from domain.telemetry.models import Series

if TYPE_CHECKING:
    from api.graphql.incidents import IncidentType
    from api.graphql.insights import InsightType
    from api.graphql.telemetry import SeriesType

LazyIncident = Annotated["IncidentType", strawberry.lazy("api.graphql.incidents")]
LazyInsight = Annotated["InsightType", strawberry.lazy("api.graphql.insights")]
LazySeries = Annotated["SeriesType", strawberry.lazy("api.graphql.telemetry")]


@strawberry.interface(
    name="Component",
    description="A part with a status of its own, as on a Statuspage: a service of the platform or a"
    " network partner.",
)
class ComponentType(NodeType):
    code: str = strawberry.field(description="Short, stable, lower case. An open set.")
    name: str
    status: ComponentStatus = strawberry.field(description="What we say it is.")
    status_since: datetime = strawberry.field(description="When `status` became what it is.")
    declared_status: ComponentStatus | None = strawberry.field(
        description="What its own status page or an operator says; null where nobody does."
    )

    @strawberry.field(
        graphql_type=Connection[LazyIncident],
        extensions=[Access("incidents:read")],
        description="Incidents about it.",
    )
    async def incidents(
        root: strawberry.Parent[Service | Partner],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.IncidentFilter | None = None,
        order_by: filters.IncidentOrder | None = None,
    ) -> Slice[Incident]:
        loaders = info.context.loaders
        of_kind = loaders.incidents_by_service if isinstance(root, Service) else loaders.incidents_by_partner
        return await of_kind.load(Ask(root.id, Page.of(first, after, last, before), filter, order_by))


@strawberry.type(name="Service", description="A part of the platform, such as the API or payouts.")
class ServiceType(ComponentType, NodeType):
    is_type_of = rows(Service)

    description: str | None
    group: str | None = strawberry.field(description="Heading that it stands under on a status page.")


@strawberry.type(name="Partner", description="A network partner: a card network, issuer, acquirer or bank.")
class PartnerType(ComponentType, NodeType):
    is_type_of = rows(Partner)

    kind: PartnerKind
    regions: list[str] = strawberry.field(description="ISO 3166-1 alpha-2; empty: everywhere.")
    status_page_url: URL | None = strawberry.field(description="Statuspage that is read for it.")


@strawberry.type(name="DependencyEdge", description="What an account's traffic runs through.")
class DependencyEdge:
    cursor: str

    @strawberry.field(graphql_type=ComponentType)
    async def node(root: strawberry.Parent[EdgeRow], info: Info) -> Any:
        dependency: Dependency = root.node
        if dependency.service_id:
            return await info.context.loaders.services.load(dependency.service_id)
        assert dependency.partner_id is not None, "a dependency is on one of the two"
        return await info.context.loaders.partners.load(dependency.partner_id)

    @strawberry.field(description="Part of the account's traffic that runs through it, 0..1.")
    def traffic_share(root: strawberry.Parent[EdgeRow]) -> float:
        share: float = root.node.traffic_share
        return share


@strawberry.type(name="DependencyConnection", description="A page of an account's dependencies.")
class DependencyConnection:
    @strawberry.field(graphql_type=list[DependencyEdge])
    def edges(root: strawberry.Parent[tuple[Account, Slice[Dependency]]]) -> list[EdgeRow]:
        return [EdgeRow(*pair) for pair in zip(root[1].cursors, root[1].rows, strict=True)]

    @strawberry.field
    def page_info(root: strawberry.Parent[tuple[Account, Slice[Dependency]]]) -> PageInfo:
        return page_info(root[1])

    @strawberry.field
    async def total_count(root: strawberry.Parent[tuple[Account, Slice[Dependency]]], info: Info) -> int:
        return await info.context.loaders.dependency_counts.load(root[0].id)


@strawberry.type(name="Account", description="A merchant.")
class AccountType(NodeType):
    is_type_of = rows(Account)

    external_id: str = strawberry.field(description="The platform's own identifier.")
    name: str
    country: str = strawberry.field(description="ISO 3166-1 alpha-2.")
    currency: Currency
    time_zone: str = strawberry.field(description="IANA name. Forecasts, days and weeks follow it.")
    merchant_category_code: str | None = strawberry.field(
        description="ISO 18245, four digits; null when not told."
    )
    created_at: datetime

    @strawberry.field(
        graphql_type=Annotated["AccountType", strawberry.lazy("api.graphql.catalog")] | None,
        description="Null at the top, and where the principal may not see above.",
    )
    async def parent(root: strawberry.Parent[Account], info: Info) -> Account | None:
        return await info.context.loaders.accounts.load(root.parent_id) if root.parent_id else None

    @strawberry.field(
        graphql_type=Connection[Annotated["AccountType", strawberry.lazy("api.graphql.catalog")]],
        description="The accounts right below it, by name.",
    )
    async def children(
        root: strawberry.Parent[Account], info: Info, first: int | None = None, after: str | None = None
    ) -> Slice[Account]:
        return await info.context.loaders.children_by_account.load(Ask(root.id, Page.of(first, after)))

    @strawberry.field(
        extensions=[Access("telemetry:read")],
        description="What was approved in the 168 whole hours before now, in the account's own currency;"
        " null where no amounts are sent.",
    )
    async def turnover(root: strawberry.Parent[Account], info: Info) -> Money | None:
        amount = await info.context.loaders.turnover_by_account.load(root.id)
        return None if amount is None else money(amount, root.currency)

    @strawberry.field(
        graphql_type=DependencyConnection,
        extensions=[Access("status:read")],
        description="The services and partners that its traffic runs through, largest share first.",
    )
    async def dependencies(
        root: strawberry.Parent[Account], info: Info, first: int | None = None, after: str | None = None
    ) -> tuple[Account, Slice[Dependency]]:
        ask = Ask(root.id, Page.of(first, after))
        return root, await info.context.loaders.dependencies_by_account.load(ask)

    @strawberry.field(
        graphql_type=Connection[LazySeries],
        extensions=[Access("telemetry:read")],
        description="Its series, by metric.",
    )
    async def series(
        root: strawberry.Parent[Account],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        filter: filters.SeriesFilter | None = None,
    ) -> Slice[Series]:
        ask = Ask(root.id, Page.of(first, after), filter)
        return await info.context.loaders.series_by_account.load(ask)

    @strawberry.field(
        graphql_type=Connection[LazyIncident],
        extensions=[Access("incidents:read")],
        description="Incidents that reached it.",
    )
    async def incidents(
        root: strawberry.Parent[Account],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.IncidentFilter | None = None,
        order_by: filters.IncidentOrder | None = None,
    ) -> Slice[Incident]:
        ask = Ask(root.id, Page.of(first, after, last, before), filter, order_by)
        return await info.context.loaders.incidents_by_account.load(ask)

    @strawberry.field(
        graphql_type=Connection[LazyInsight],
        extensions=[Access("insights:read")],
        description="Insights about it.",
    )
    async def insights(
        root: strawberry.Parent[Account],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.InsightFilter | None = None,
        order_by: filters.InsightOrder | None = None,
    ) -> Slice[Insight]:
        ask = Ask(root.id, Page.of(first, after, last, before), filter, order_by)
        return await info.context.loaders.insights_by_account.load(ask)


@strawberry.type
class CatalogQuery:
    @strawberry.field(
        graphql_type=AccountType | None,
        extensions=[Access("accounts:read")],
        description="Null when it does not exist for this principal.",
    )
    async def account(self, info: Info, id: strawberry.ID) -> Account | None:
        key = ids.key(id, "Account")
        return await info.context.loaders.accounts.load(key) if key else None

    @strawberry.field(
        graphql_type=Connection[AccountType],
        extensions=[Access("accounts:read")],
        description="Every account that the principal may see.",
    )
    async def accounts(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.AccountFilter | None = None,
        order_by: filters.AccountOrder | None = None,
    ) -> Slice[Account]:
        listing = lists.accounts(info.context.asked(filter, order_by))
        return await page_of(info, listing, Page.of(first, after, last, before))

    @strawberry.field(
        graphql_type=ServiceType | None,
        extensions=[Access("status:read")],
        description="Null when it does not exist for this principal.",
    )
    async def service(self, info: Info, id: strawberry.ID) -> Service | None:
        key = ids.key(id, "Service")
        return await info.context.loaders.services.load(key) if key else None

    @strawberry.field(
        graphql_type=Connection[ServiceType],
        extensions=[Access("status:read")],
        description="By group, then name.",
    )
    async def services(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        filter: filters.ComponentFilter | None = None,
    ) -> Slice[Service]:
        return await page_of(info, lists.services(info.context.asked(filter)), Page.of(first, after))

    @strawberry.field(
        graphql_type=PartnerType | None,
        extensions=[Access("status:read")],
        description="Null when it does not exist for this principal.",
    )
    async def partner(self, info: Info, id: strawberry.ID) -> Partner | None:
        key = ids.key(id, "Partner")
        return await info.context.loaders.partners.load(key) if key else None

    @strawberry.field(
        graphql_type=Connection[PartnerType],
        extensions=[Access("status:read")],
        description="By name.",
    )
    async def partners(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        filter: filters.ComponentFilter | None = None,
    ) -> Slice[Partner]:
        return await page_of(info, lists.partners(info.context.asked(filter)), Page.of(first, after))

"""The accounts that an incident reached, of those that the principal may see, and what it means for each."""

import strawberry

from api.graphql.catalog import AccountType
from api.graphql.context import Info
from api.graphql.money import MoneyRange, money_range
from api.graphql.paging import EdgeRow, PageInfo, page_info
from domain.catalog.models import Account
from domain.core.paging import Slice
from domain.incidents.models import Incident, IncidentAccount


@strawberry.type(description="An account that an incident reached, and what it means for it.")
class IncidentAccountEdge:
    cursor: str

    @strawberry.field(graphql_type=AccountType)
    async def node(root: strawberry.Parent[EdgeRow], info: Info) -> Account | None:
        return await info.context.loaders.accounts.load(root.node.account_id)

    @strawberry.field(description="The part of the account's traffic that the incident touches, 0..1.")
    def traffic_share(root: strawberry.Parent[EdgeRow]) -> float | None:
        share: float | None = root.node.traffic_share
        return share

    @strawberry.field(
        description="Expected less observed; while open so far, after resolution the total. Null until it"
        " can be said."
    )
    def money_at_risk(root: strawberry.Parent[EdgeRow]) -> MoneyRange | None:
        row: IncidentAccount = root.node
        return money_range(row.money_low, row.money_mid, row.money_high, row.currency)

    @strawberry.field(
        description="What it means for this account, in plain words; null until it can be said."
    )
    def summary(root: strawberry.Parent[EdgeRow]) -> str | None:
        return root.node.summary or None


@strawberry.type(description="A page of the accounts that an incident reached.")
class IncidentAccountConnection:
    @strawberry.field(graphql_type=list[IncidentAccountEdge])
    def edges(root: strawberry.Parent[tuple[Incident, Slice[IncidentAccount]]]) -> list[EdgeRow]:
        return [EdgeRow(*pair) for pair in zip(root[1].cursors, root[1].rows, strict=True)]

    @strawberry.field
    def page_info(root: strawberry.Parent[tuple[Incident, Slice[IncidentAccount]]]) -> PageInfo:
        return page_info(root[1])

    @strawberry.field(description="Of those that the principal may see.")
    async def total_count(
        root: strawberry.Parent[tuple[Incident, Slice[IncidentAccount]]], info: Info
    ) -> int:
        return await info.context.loaders.account_counts.load(root[0].id)

"""Insights, as they are published: the finding, its evidence, what to do and what it is worth."""

from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

import strawberry

from api.graphql import filters, ids, lists
from api.graphql.access import Access
from api.graphql.anomalies import LEVEL, Interval
from api.graphql.catalog import AccountType, ComponentType
from api.graphql.context import Info
from api.graphql.incidents import IncidentType
from api.graphql.money import MoneyRange, money_range
from api.graphql.node import NodeType, rows
from api.graphql.paging import Connection, page_of
from api.graphql.scalars import URL, SafeInt
from api.graphql.telemetry import SeriesType
from domain.catalog.models import Account, Partner, Service
from domain.core.paging import Page, Slice
from domain.incidents.models import Incident, Severity
from domain.insights.models import DismissalReason, Insight, InsightKind, InsightStatus
from domain.telemetry.models import Series

Item = dict[str, Any]


@strawberry.type(description="Observed against expected over a window, and the series that shows it.")
class Evidence:
    @strawberry.field
    def sentence(root: strawberry.Parent[Item]) -> str:
        return str(root["sentence"])

    @strawberry.field(
        graphql_type=SeriesType | None,
        extensions=[Access("telemetry:read")],
        description="Null where the evidence is not a series.",
    )
    async def series(root: strawberry.Parent[Item], info: Info) -> Series | None:
        key = root.get("series_id")
        return await info.context.loaders.series.load(UUID(key)) if key else None

    @strawberry.field(name="from")
    def from_(root: strawberry.Parent[Item]) -> datetime:
        return datetime.fromisoformat(root["from"])

    @strawberry.field
    def until(root: strawberry.Parent[Item]) -> datetime:
        return datetime.fromisoformat(root["until"])

    @strawberry.field
    def observed(root: strawberry.Parent[Item]) -> float | None:
        return root.get("observed")

    @strawberry.field
    def expected(root: strawberry.Parent[Item]) -> float | None:
        return root.get("expected")

    @strawberry.field(description="Of the expectation, at 95 %; null where there is none.")
    def interval(root: strawberry.Parent[Item]) -> Interval | None:
        lower, upper = root.get("lower"), root.get("upper")
        if lower is None or upper is None:
            return None
        return Interval(lower=lower, upper=upper, level=LEVEL)

    @strawberry.field(description="Events behind what was observed.")
    def sample_size(root: strawberry.Parent[Item]) -> SafeInt | None:
        return root.get("sample_size")


@strawberry.type(description="Where to read more.")
class DocumentationLink:
    label: str
    url: URL


@strawberry.enum(description="Minutes; days; weeks or another team.")
class Effort(StrEnum):
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


@strawberry.type(description="What to do about it.")
class RecommendedAction:
    @strawberry.field(description="Names the action in `completeInsight`.")
    def key(root: strawberry.Parent[Item]) -> str:
        return str(root["key"])

    @strawberry.field
    def title(root: strawberry.Parent[Item]) -> str:
        return str(root["title"])

    @strawberry.field
    def steps(root: strawberry.Parent[Item]) -> list[str]:
        return list(root["steps"])

    @strawberry.field
    def documentation_links(root: strawberry.Parent[Item]) -> list[DocumentationLink]:
        links = root["documentation_links"]
        return [DocumentationLink(label=link["label"], url=URL(link["url"])) for link in links]

    @strawberry.field
    def effort(root: strawberry.Parent[Item]) -> Effort:
        return Effort(root["effort"])


@strawberry.type(description="Why it was put aside.")
class InsightDismissal:
    reason: DismissalReason
    note: str | None


@strawberry.type(
    name="Insight",
    description="Something worth knowing about one account, with what it is worth and what to do.",
)
class InsightType(NodeType):
    is_type_of = rows(Insight)

    kind: InsightKind
    title: str
    summary: str
    severity: Severity
    status: InsightStatus
    confidence: float = strawberry.field(description="0..1, how sure the finding is.")
    created_at: datetime
    updated_at: datetime
    expires_at: datetime | None
    assignee: str | None = strawberry.field(
        description="Name of the person or key that will see to it; null until somebody does."
    )
    applied_action: str | None = strawberry.field(
        description="Key of the recommended action that was taken; null until one is."
    )
    applied_at: datetime | None = strawberry.field(description="When it was taken.")

    @strawberry.field(graphql_type=AccountType, extensions=[Access("accounts:read")])
    async def account(root: strawberry.Parent[Insight], info: Info) -> Account | None:
        return await info.context.loaders.accounts.load(root.account_id)

    @strawberry.field(
        graphql_type=ComponentType | None,
        extensions=[Access("status:read")],
        description="The part it is about, if one.",
    )
    async def component(root: strawberry.Parent[Insight], info: Info) -> Service | Partner | None:
        if root.service_id:
            return await info.context.loaders.services.load(root.service_id)
        return await info.context.loaders.partners.load(root.partner_id) if root.partner_id else None

    @strawberry.field(
        graphql_type=IncidentType | None,
        extensions=[Access("incidents:read")],
        description="The incident it comes from, if one.",
    )
    async def incident(root: strawberry.Parent[Insight], info: Info) -> Incident | None:
        return await info.context.loaders.incidents.load(root.incident_id) if root.incident_id else None

    @strawberry.field(graphql_type=list[Evidence], description="What the finding rests on, strongest first.")
    def evidence(root: strawberry.Parent[Insight]) -> list[Item]:
        return root.evidence

    @strawberry.field(graphql_type=list[RecommendedAction], description="Best first.")
    def recommended_actions(root: strawberry.Parent[Insight]) -> list[Item]:
        return root.recommended_actions

    @strawberry.field(
        description="A month of doing nothing, or for what is over its total; null where money does not"
        " measure it."
    )
    def estimated_impact(root: strawberry.Parent[Insight]) -> MoneyRange | None:
        return money_range(root.impact_low, root.impact_mid, root.impact_high, root.currency)

    @strawberry.field(description="Null unless DISMISSED.")
    def dismissal(root: strawberry.Parent[Insight]) -> InsightDismissal | None:
        if root.dismissal_reason is None:
            return None
        return InsightDismissal(reason=root.dismissal_reason, note=root.dismissal_note)


@strawberry.type
class InsightQuery:
    @strawberry.field(
        graphql_type=InsightType | None,
        extensions=[Access("insights:read")],
        description="Null when it does not exist for this principal.",
    )
    async def insight(self, info: Info, id: strawberry.ID) -> Insight | None:
        key = ids.key(id, "Insight")
        return await info.context.loaders.insights.load(key) if key else None

    @strawberry.field(
        graphql_type=Connection[InsightType],
        extensions=[Access("insights:read")],
        description="Every insight that the principal may see, highest rank first unless `orderBy` says"
        " otherwise.",
    )
    async def insights(
        self,
        info: Info,
        first: int | None = None,
        after: str | None = None,
        last: int | None = None,
        before: str | None = None,
        filter: filters.InsightFilter | None = None,
        order_by: filters.InsightOrder | None = None,
    ) -> Slice[Insight]:
        listing = lists.all_insights(info.context.asked(filter, order_by))
        return await page_of(info, listing, Page.of(first, after, last, before))

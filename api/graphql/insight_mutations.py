"""What people do about insights. Each may be sent again: it is repeatable by nature."""

from datetime import datetime
from typing import Annotated, TypedDict

import strawberry

from api.graphql import ids
from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.insights import InsightType
from api.graphql.refusals import ConflictType, InvalidInputType, NotFoundType
from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.insights import service as insights
from domain.insights.models import DismissalReason, Insight

OWNERS = (PrincipalKind.MERCHANT, PrincipalKind.OPERATOR)


@strawberry.type(description="The insight as it is now.")
class InsightSuccess:
    insight: InsightType


@strawberry.input(description="`assignee`: name of a person; null is the caller.")
class AcknowledgeInsightInput:
    id: strawberry.ID
    assignee: str | None = None


@strawberry.input(description="Which insight, and why.")
class DismissInsightInput:
    id: strawberry.ID
    reason: DismissalReason
    note: str | None = None


@strawberry.input(description="`actionKey` names one of the recommended actions; `appliedAt` null is now.")
class CompleteInsightInput:
    id: strawberry.ID
    action_key: str
    applied_at: datetime | None = None
    note: str | None = None


AcknowledgeInsightResult = Annotated[
    InsightSuccess | InvalidInputType | NotFoundType | ConflictType,
    strawberry.union("AcknowledgeInsightResult"),
]
DismissInsightResult = Annotated[
    InsightSuccess | InvalidInputType | NotFoundType | ConflictType,
    strawberry.union("DismissInsightResult"),
]
CompleteInsightResult = Annotated[
    InsightSuccess | InvalidInputType | NotFoundType | ConflictType,
    strawberry.union("CompleteInsightResult"),
]


@strawberry.type
class InsightMutation:
    @strawberry.mutation(
        graphql_type=AcknowledgeInsightResult,
        extensions=[Access("insights:write", *OWNERS)],
        description="ACCEPTED: somebody will see to it.",
    )
    async def acknowledge_insight(self, info: Info, input: AcknowledgeInsightInput) -> InsightSuccess:
        key, context = ids.required(input.id, "Insight"), info.context
        async with context.transaction() as session:
            insight = await insights.acknowledge(
                session, key, assignee=input.assignee, at=context.now, **_by(context.principal)
            )
        return _success(insight)

    @strawberry.mutation(
        graphql_type=DismissInsightResult,
        extensions=[Access("insights:write", *OWNERS)],
        description="DISMISSED: nothing will be done about it.",
    )
    async def dismiss_insight(self, info: Info, input: DismissInsightInput) -> InsightSuccess:
        key, context = ids.required(input.id, "Insight"), info.context
        async with context.transaction() as session:
            insight = await insights.dismiss(
                session,
                key,
                reason=input.reason,
                note=input.note,
                at=context.now,
                **_by(context.principal),
            )
        return _success(insight)

    @strawberry.mutation(
        graphql_type=CompleteInsightResult,
        extensions=[Access("insights:write", *OWNERS)],
        description="APPLIED: an action was taken.",
    )
    async def complete_insight(self, info: Info, input: CompleteInsightInput) -> InsightSuccess:
        key, context = ids.required(input.id, "Insight"), info.context
        async with context.transaction() as session:
            insight = await insights.complete(
                session,
                key,
                action_key=input.action_key,
                applied_at=input.applied_at,
                note=input.note,
                at=context.now,
                **_by(context.principal),
            )
        return _success(insight)


class By(TypedDict):
    by: str
    principal: Principal


def _by(principal: Principal) -> By:
    """Its name is what is kept; what it may see is what it may change."""
    return {"by": principal.name, "principal": principal}


def _success(insight: Insight) -> InsightSuccess:
    return InsightSuccess(insight=insight)  # type: ignore[arg-type]  # a row stands for its type

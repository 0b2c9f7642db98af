"""What people do about incidents: declare, tell, acknowledge, resolve."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import strawberry

from api.graphql import ids
from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.incidents import IncidentType
from api.graphql.refusals import ConflictType, InvalidInputType, NotFoundType
from api.graphql.repeats import once
from domain.access.models import PrincipalKind
from domain.catalog.models import ComponentStatus
from domain.core.errors import InvalidInput
from domain.incidents import service as incidents
from domain.incidents.models import HealthKind, Impact, IncidentStatus, Resolution, Severity
from domain.incidents.updates import Change

DECLARERS = (PrincipalKind.PARTNER, PrincipalKind.OPERATOR)
ENDS = (IncidentStatus.RESOLVED, IncidentStatus.COMPLETED)


@strawberry.type(description="The incident as it is now.")
class IncidentSuccess:
    incident: IncidentType


@strawberry.input(description="What is said of a component.")
class ComponentStatusInput:
    component_id: strawberry.ID
    status: ComponentStatus


@strawberry.input(description="A new incident.")
class DeclareIncidentInput:
    title: str
    body: str = strawberry.field(description="First update, CommonMark.")
    impact: Impact
    components: list[ComponentStatusInput]
    kind: HealthKind = HealthKind.COMPONENT_STATUS
    status: IncidentStatus = IncidentStatus.INVESTIGATING
    severity: Severity = Severity.CRITICAL
    started_at: datetime | None = strawberry.field(default=None, description="Null: now.")
    next_update_by: datetime | None = None
    grouping_key: str | None = strawberry.field(
        default=None, description="Null: made from kind and components."
    )
    idempotency_key: str | None = strawberry.field(
        default=None, description="Up to 255 characters, kept 24 hours or more."
    )


@strawberry.input(description="Null leaves a thing as it is.")
class PostIncidentUpdateInput:
    id: strawberry.ID
    body: str = strawberry.field(description="CommonMark.")
    status: IncidentStatus | None = None
    impact: Impact | None = None
    components: list[ComponentStatusInput] = strawberry.field(default_factory=list)
    next_update_by: datetime | None = None
    display_at: datetime | None = strawberry.field(default=None, description="Null: now.")
    idempotency_key: str | None = strawberry.field(
        default=None, description="Up to 255 characters, kept 24 hours or more."
    )


@strawberry.input(description="Components go back to operational; `resolvedAt` null is now.")
class ResolveIncidentInput:
    id: strawberry.ID
    body: str = strawberry.field(description="Last update, CommonMark.")
    resolved_at: datetime | None = None


@strawberry.input(description="Which incident.")
class AcknowledgeIncidentInput:
    id: strawberry.ID


DeclareIncidentResult = Annotated[
    IncidentSuccess | InvalidInputType | ConflictType, strawberry.union("DeclareIncidentResult")
]
PostIncidentUpdateResult = Annotated[
    IncidentSuccess | InvalidInputType | NotFoundType | ConflictType,
    strawberry.union("PostIncidentUpdateResult"),
]
ResolveIncidentResult = Annotated[
    IncidentSuccess | InvalidInputType | NotFoundType | ConflictType,
    strawberry.union("ResolveIncidentResult"),
]
AcknowledgeIncidentResult = Annotated[
    IncidentSuccess | NotFoundType | ConflictType, strawberry.union("AcknowledgeIncidentResult")
]


@strawberry.type
class IncidentMutation:
    @strawberry.mutation(
        graphql_type=DeclareIncidentResult,
        extensions=[Access("incidents:write", *DECLARERS)],
        description="Opens an incident, or answers Conflict with the live one of the same grouping key.",
    )
    async def declare_incident(self, info: Info, input: DeclareIncidentInput) -> IncidentSuccess:
        context = info.context
        statuses = _statuses(input.components)
        if not statuses:
            raise InvalidInput("Name at least one service or partner.", path=("components",))
        async with context.transaction() as session:

            async def declare() -> UUID:
                made = await incidents.declare(
                    session,
                    actor=context.principal,
                    at=context.now,
                    body=input.body,
                    statuses=statuses,
                    grouping_key=input.grouping_key,
                    title=input.title,
                    impact=input.impact,
                    kind=input.kind,
                    status=input.status,
                    severity=input.severity,
                    started_at=input.started_at or context.now,
                    next_update_by=input.next_update_by,
                )
                return made.id

            key = await once(context, session, "declareIncident", input, declare)
        return await _success(info, key)

    @strawberry.mutation(
        graphql_type=PostIncidentUpdateResult,
        extensions=[Access("incidents:write", *DECLARERS)],
        description="Every status but RESOLVED and COMPLETED; a status that was left may be taken again.",
    )
    async def post_incident_update(self, info: Info, input: PostIncidentUpdateInput) -> IncidentSuccess:
        context, key = info.context, ids.required(input.id, "Incident")
        if input.status in ENDS:
            raise InvalidInput(f"{input.status} is said by resolveIncident.", path=("status",))
        statuses = _statuses(input.components)
        async with context.transaction() as session:

            async def post() -> UUID:
                await incidents.post_update(
                    session,
                    key,
                    body=input.body,
                    actor=context.principal,
                    at=context.now,
                    statuses=statuses,
                    **_change(input),
                )
                return key

            await once(context, session, "postIncidentUpdate", input, post)
        return await _success(info, key)

    @strawberry.mutation(
        graphql_type=ResolveIncidentResult,
        extensions=[Access("incidents:write", *DECLARERS)],
        description="Also ends a maintenance. Resolving a resolved incident changes nothing and succeeds.",
    )
    async def resolve_incident(self, info: Info, input: ResolveIncidentInput) -> IncidentSuccess:
        context, key = info.context, ids.required(input.id, "Incident")
        async with context.transaction() as session:
            await incidents.resolve(
                session,
                key,
                resolution=Resolution.DECLARED,
                actor=context.principal,
                at=context.now,
                body=input.body,
                resolved_at=input.resolved_at,
            )
        return await _success(info, key)

    @strawberry.mutation(
        graphql_type=AcknowledgeIncidentResult,
        extensions=[Access("incidents:write", *DECLARERS)],
        description="Takes charge. Who did so first stays: acknowledging again changes nothing and succeeds.",
    )
    async def acknowledge_incident(self, info: Info, input: AcknowledgeIncidentInput) -> IncidentSuccess:
        context, key = info.context, ids.required(input.id, "Incident")
        async with context.transaction() as session:
            await incidents.acknowledge(session, key, actor=context.principal, at=context.now)
        return await _success(info, key)


def _change(input: PostIncidentUpdateInput) -> Change:
    change: Change = {"status": input.status, "impact": input.impact, "display_at": input.display_at}
    if input.next_update_by is not None:
        change["next_update_by"] = input.next_update_by
    return change


def _statuses(components: list[ComponentStatusInput]) -> dict[UUID, ComponentStatus]:
    """By the key of the component; InvalidInput for an id that is none, or that is named twice."""
    found: dict[UUID, ComponentStatus] = {}
    for index, one in enumerate(components):
        path = ("components", str(index), "componentId")
        key = ids.key(one.component_id, "Service") or ids.key(one.component_id, "Partner")
        if key is None:
            raise InvalidInput(f"There is no service or partner {one.component_id}.", path=path)
        if key in found:
            raise InvalidInput("This component is named twice.", path=path)
        found[key] = one.status
    return found


async def _success(info: Info, key: UUID) -> IncidentSuccess:
    incident = await info.context.loaders.incidents.load(key)
    return IncidentSuccess(incident=incident)  # type: ignore[arg-type]  # a row stands for its type

"""Forecasts, and the jobs that compute them, as they are published."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import strawberry

from api.graphql import ids
from api.graphql.access import Access
from api.graphql.context import Info
from api.graphql.node import NodeType, rows
from api.graphql.refusals import InvalidInputType, NotFoundType
from api.graphql.repeats import once
from api.graphql.telemetry import SeriesType
from domain.core.errors import InvalidInput
from domain.forecasts import service as forecasts
from domain.forecasts.models import Forecast, Job, JobKind, JobStatus, SeriesNotFound
from domain.telemetry.models import Series

MOST_AHEAD = timedelta(days=14)


@strawberry.type(
    description="Index i is the interval that begins at ds[i] = start + i * step. All arrays have one length."
)
class ForecastColumns:
    start: datetime
    step: timedelta
    ds: list[datetime]
    yhat: list[float]
    yhat_lower80: list[float] = strawberry.field(name="yhatLower80")
    yhat_upper80: list[float] = strawberry.field(name="yhatUpper80")
    yhat_lower95: list[float] = strawberry.field(name="yhatLower95")
    yhat_upper95: list[float] = strawberry.field(name="yhatUpper95")


@strawberry.type(
    name="Forecast",
    description="What is to be expected of a series. Fitted in the account's local time, told in UTC.",
)
class ForecastType(NodeType):
    is_type_of = rows(Forecast)

    model: str = strawberry.field(description="Such as `prophet`. An open set.")
    fitted_at: datetime
    trained_from: datetime
    trained_until: datetime
    remarks: list[str] = strawberry.field(
        description="Why it is simple or wide, in plain words; empty when nothing is to be said."
    )

    @strawberry.field(description="How far it reaches beyond `trainedUntil`.")
    def horizon(root: strawberry.Parent[Forecast]) -> timedelta:
        return root.start + root.horizon - root.trained_until

    @strawberry.field(graphql_type=SeriesType)
    async def series(root: strawberry.Parent[Forecast], info: Info) -> Series | None:
        return await info.context.loaders.series.load(root.series_id)

    @strawberry.field(
        description="Hourly bands from its start over `ahead` (null: all of the horizon), in the metric's"
        " unit an hour."
    )
    def columns(root: strawberry.Parent[Forecast], ahead: timedelta | None = None) -> ForecastColumns | None:
        step = timedelta(hours=1)
        if ahead is not None and ahead < timedelta():
            raise InvalidInput("`ahead` must not be negative.", path=("ahead",))
        size = len(root.yhat) if ahead is None else min(len(root.yhat), -(-ahead // step))
        return ForecastColumns(
            start=root.start,
            step=step,
            ds=[root.start + index * step for index in range(size)],
            yhat=root.yhat[:size],
            yhat_lower80=root.yhat_lower80[:size],
            yhat_upper80=root.yhat_upper80[:size],
            yhat_lower95=root.yhat_lower95[:size],
            yhat_upper95=root.yhat_upper95[:size],
        )


JobResult = Annotated[ForecastType, strawberry.union("JobResult", description="What a job computed.")]


@strawberry.type(name="Job", description="Work done by the workers.")
class JobType(NodeType):
    is_type_of = rows(Job)

    kind: JobKind
    status: JobStatus
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    failure: str | None = strawberry.field(description="One plain sentence; null unless FAILED.")

    @strawberry.field(graphql_type=JobResult | None, description="Null until SUCCEEDED.")
    async def result(root: strawberry.Parent[Job], info: Info) -> Any:
        if root.status is not JobStatus.SUCCEEDED:
            return None
        return await info.context.loaders.forecasts_by_job.load(root.id)


@strawberry.type(description="The job that was started or joined.")
class JobSuccess:
    job: JobType


@strawberry.input(description="`horizon` is at most P14D. `idempotencyKey`: up to 255 characters.")
class RequestForecastInput:
    series_id: strawberry.ID
    horizon: timedelta = timedelta(days=2)
    idempotency_key: str | None = None


RequestForecastResult = Annotated[
    JobSuccess | InvalidInputType | NotFoundType, strawberry.union("RequestForecastResult")
]


@strawberry.type
class ForecastMutation:
    @strawberry.mutation(
        graphql_type=RequestForecastResult,
        extensions=[Access("telemetry:read")],
        description="Starts a job that fits the series now; a fit already waiting is joined.",
    )
    async def request_forecast(self, info: Info, input: RequestForecastInput) -> JobSuccess:
        context, key = info.context, ids.required(input.series_id, "Series")
        if not timedelta(hours=1) <= input.horizon <= MOST_AHEAD:
            raise InvalidInput("`horizon` must be from PT1H to P14D.", path=("horizon",))
        series = await _forecastable(info, key)
        async with context.transaction() as session:

            async def request() -> UUID:
                job = await forecasts.request(
                    session,
                    series,
                    requested_by=context.principal.subject,
                    trained_until=context.now.replace(minute=0, second=0, microsecond=0),
                    horizon_hours=-(-input.horizon // timedelta(hours=1)),
                    at=context.now,
                )
                return job.id

            job_id = await once(context, session, "requestForecast", input, request)
        job = await context.loaders.jobs.load(job_id)
        return JobSuccess(job=job)  # type: ignore[arg-type]  # a row stands for its type


async def _forecastable(info: Info, key: UUID) -> Series:
    series = await info.context.loaders.series.load(key)
    if series is None:
        raise SeriesNotFound(key)
    if series.is_measured:
        raise InvalidInput(
            f"{series.metric} is not forecast: take a total, a rate or one of its slices.", path=("seriesId",)
        )
    return series

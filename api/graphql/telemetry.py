"""Series, what they came to, and how current they are, as they are published."""

from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import numpy as np
import strawberry

from api.graphql import filters, lists
from api.graphql.access import Access
from api.graphql.batching import Ask
from api.graphql.catalog import AccountType
from api.graphql.context import Info
from api.graphql.loaders import Reading
from api.graphql.node import NodeType, rows
from api.graphql.paging import Connection, page_of
from api.graphql.scalars import SafeInt
from domain.anomalies.episodes import Phase
from domain.anomalies.models import Anomaly
from domain.catalog.models import Account
from domain.core.errors import InvalidInput
from domain.core.paging import Page, Slice
from domain.forecasts.models import Forecast
from domain.telemetry import points
from domain.telemetry.models import Series
from domain.telemetry.points import Kind, Metric
from domain.telemetry.queries import Resolution, SeriesData, Window

if TYPE_CHECKING:
    from api.graphql.anomalies import AnomalyType
    from api.graphql.forecasts import ForecastType

LazyForecast = Annotated["ForecastType", strawberry.lazy("api.graphql.forecasts")]
LazyAnomaly = Annotated["AnomalyType", strawberry.lazy("api.graphql.anomalies")]

MOST_POINTS, MOST_VALUES, FITTING = 5_000, 100_000, 1_000
LATE_AFTER, MISSING_AFTER = timedelta(minutes=5), timedelta(hours=1)


@strawberry.type(
    description="A dimension and its value, such as `issuer` = `Bank A`. Keys and values are open sets."
)
class Label:
    key: str
    value: str


def labels(pairs: dict[str, str]) -> list[Label]:
    return [Label(key=key, value=value) for key, value in sorted(pairs.items())]


@strawberry.type(
    name="Metric", description="A measured quantity, ingested or derived (a rate from two counts)."
)
class MetricType:
    is_type_of = rows(Metric)

    name: str = strawberry.field(description="Such as `payments.count` or `authorization_rate`. An open set.")
    kind: Kind
    unit: str = strawberry.field(
        description="UCUM as OpenTelemetry uses it: `1` for rates, `ms`, `{payment}`; amounts are `minor`,"
        " in the account's currency; empty where nothing is known of it."
    )


@strawberry.input(description="Which points. One variable serves every field of a chart.")
class SeriesWindow:
    range: filters.TimeRange = strawberry.field(
        default_factory=lambda: filters.TimeRange(last=timedelta(days=1))
    )
    resolution: Resolution | None = strawberry.field(
        default=None, description="Null: the finest that gives at most 1,000 points, or else hours."
    )

    def window(self, now: datetime, *, most: int) -> Window:
        """InvalidInput where it holds more than `most` intervals."""
        start, until = self.range.bounds(now)
        resolution = self.resolution or _finest(until - start)
        window = Window(start, until, resolution)
        if (until - start) / resolution.step > most + 1:
            raise InvalidInput(
                f"The window holds more than {most} intervals: take a coarser resolution.",
                path=("window",),
            )
        return window


def _finest(length: timedelta) -> Resolution:
    by_step = sorted(Resolution, key=lambda one: one.step)
    return next((one for one in by_step if length / one.step <= FITTING), by_step[-1])


@strawberry.type(
    description="What a series came to in the interval that begins `at`. `sampleSize` is the number of"
    " events behind a value: a rate of 3 payments is not a rate."
)
class Point:
    at: datetime
    value: float
    sample_size: SafeInt


@strawberry.type(
    description="Arrays over one regular grid: index i is the interval that begins at start + i * step."
)
class SeriesColumns:
    start: datetime
    step: timedelta
    resolution: Resolution
    values: list[float | None] = strawberry.field(description="Null where an interval has no data.")
    sample_sizes: list[SafeInt] = strawberry.field(
        description="Events behind each value; 0 where there is none."
    )
    previous: list[float | None] = strawberry.field(
        description="`values` as they were `compareTo` before, index by index; empty without it."
    )


@strawberry.enum(
    description="FRESH, LATE (by more than 5 minutes) or MISSING (by more than an hour, or never seen)."
    " LEARNING: too little history for a verdict."
)
class FreshnessState(StrEnum):
    FRESH = "FRESH"
    LATE = "LATE"
    MISSING = "MISSING"
    LEARNING = "LEARNING"


@strawberry.type(description="How current the account's data are.")
class DataFreshness:
    state: FreshnessState
    latest_at: datetime | None = strawberry.field(
        description="The account's newest minute; null before the first."
    )
    lag: timedelta | None = strawberry.field(description="From `latestAt` to now.")
    remark: str | None = strawberry.field(
        description="Why there is no verdict yet, in plain words; null when there is."
    )


@strawberry.type(
    name="Series",
    description="One line on a chart: a metric of one account with some labels fixed. A series that fixes"
    " fewer labels is made of those that fix more, so an account's total and its split by issuer agree.",
)
class SeriesType(NodeType):
    is_type_of = rows(Series)

    created_at: datetime = strawberry.field(description="When it was first seen.")

    @strawberry.field(graphql_type=MetricType)
    def metric(root: strawberry.Parent[Series]) -> Metric:
        return points.metric(root.metric)

    @strawberry.field(description="The fixed labels, by key; empty for the total.")
    def labels(root: strawberry.Parent[Series]) -> list[Label]:
        return labels(root.labels)

    @strawberry.field(
        graphql_type=AccountType | None,
        extensions=[Access("accounts:read")],
        description="Whose it is.",
    )
    async def account(root: strawberry.Parent[Series], info: Info) -> Account | None:
        return await info.context.loaders.accounts.load(root.account_id)

    @strawberry.field(
        description="Oldest first; intervals without data are left out. At most 5,000 intervals: a longer"
        " window is BAD_USER_INPUT (take `columns` or a coarser resolution)."
    )
    async def points(
        root: strawberry.Parent[Series], info: Info, window: SeriesWindow | None = None
    ) -> list[Point] | None:
        asked = (window or SeriesWindow()).window(info.context.now, most=MOST_POINTS)
        data = await info.context.loaders.data.load(Reading(root.id, asked, root))
        sizes = data.sample_sizes.tolist()
        return [
            Point(at=data.start + index * data.step, value=value, sample_size=sizes[index])
            for index, value in enumerate(_numbers(data))
            if value is not None
        ]

    @strawberry.field(
        description="The same points as arrays, a third of the size: at most 100,000 values. `compareTo`"
        " adds the series as it was that long before: whole intervals."
    )
    async def columns(
        root: strawberry.Parent[Series],
        info: Info,
        window: SeriesWindow | None = None,
        compare_to: timedelta | None = None,
    ) -> SeriesColumns | None:
        asked = (window or SeriesWindow()).window(info.context.now, most=MOST_VALUES)
        data = await info.context.loaders.data.load(Reading(root.id, asked, root))
        before = None
        if compare_to is not None:
            earlier = Reading(root.id, _earlier(asked, compare_to), root)
            before = await info.context.loaders.data.load(earlier)
        return SeriesColumns(
            start=data.start,
            step=data.step,
            resolution=asked.resolution,
            values=_numbers(data),
            sample_sizes=data.sample_sizes.tolist(),
            previous=_numbers(before) if before else [],
        )

    @strawberry.field(
        graphql_type=LazyForecast | None,
        description="The latest; null when the series has not been fitted.",
    )
    async def forecast(root: strawberry.Parent[Series], info: Info) -> Forecast | None:
        return await info.context.loaders.forecasts_by_series.load(root.id)

    @strawberry.field(graphql_type=Connection[LazyAnomaly], description="Newest first.")
    async def anomalies(
        root: strawberry.Parent[Series],
        info: Info,
        first: int | None = None,
        after: str | None = None,
        during: filters.TimeRange | None = None,
    ) -> Slice[Anomaly]:
        ask = Ask(root.id, Page.of(first, after), during)
        return await info.context.loaders.anomalies_by_series.load(ask)

    @strawberry.field(description="How current it is, and whether enough is known of it to be judged.")
    async def freshness(root: strawberry.Parent[Series], info: Info) -> DataFreshness:
        watch = await info.context.loaders.watches_by_series.load(root.id)
        newest = await info.context.loaders.newest_by_account.load(root.account_id)
        latest_at = newest.newest_at if newest else None
        lag = max(timedelta(), info.context.now - latest_at) if latest_at else None
        is_learning = watch is not None and watch.phase is Phase.LEARNING
        return DataFreshness(
            state=FreshnessState.LEARNING if is_learning else _state(lag),
            latest_at=latest_at,
            lag=lag,
            remark=watch.remark if watch is not None and is_learning else None,
        )


def _state(lag: timedelta | None) -> FreshnessState:
    if lag is None or lag > MISSING_AFTER:
        return FreshnessState.MISSING
    return FreshnessState.LATE if lag > LATE_AFTER else FreshnessState.FRESH


def _numbers(data: SeriesData) -> list[float | None]:
    """Values with None for no data: JSON has no NaN."""
    values: list[float | None] = data.values.tolist()
    for index in np.flatnonzero(np.isnan(data.values)):
        values[index] = None
    return values


def _earlier(window: Window, by: timedelta) -> Window:
    if by <= timedelta() or by % window.resolution.step:
        raise InvalidInput("`compareTo` must be a whole number of intervals.", path=("compareTo",))
    try:
        return replace(window, from_=window.from_ - by, until=window.until - by)
    except OverflowError as error:
        raise InvalidInput("`compareTo` reaches back too far.", path=("compareTo",)) from error


@strawberry.type
class TelemetryQuery:
    @strawberry.field(
        graphql_type=Connection[SeriesType],
        extensions=[Access("telemetry:read")],
        description="Series by metric. Cheap by itself; the data hang on each series.",
    )
    async def series(
        self, info: Info, filter: filters.SeriesFilter, first: int | None = None, after: str | None = None
    ) -> Slice[Series]:
        return await page_of(info, lists.series(info.context.asked(filter)), Page.of(first, after))

"""Series, what they came to, and how current they are, as they are published."""

from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import msgspec
import strawberry

from api.graphql import filters, lists
from api.graphql.access import Access
from api.graphql.batching import Ask
from api.graphql.catalog import AccountType
from api.graphql.context import Info
from api.graphql.figures import (
    Figures,
    Part,
    Point,
    SeriesColumns,
    SeriesGroupType,
    SeriesSummary,
    numbers,
)
from api.graphql.node import NodeType, rows
from api.graphql.paging import Connection, page_of
from api.graphql.series_loaders import Split
from api.graphql.windows import MOST_POINTS, SeriesWindow, readings, wanted
from domain.anomalies.episodes import Phase
from domain.anomalies.models import Anomaly
from domain.catalog.models import Account
from domain.core.errors import InvalidInput
from domain.core.paging import Page, Slice
from domain.forecasts.models import Forecast
from domain.telemetry import points
from domain.telemetry.aggregations import OF_KIND, Aggregation
from domain.telemetry.grouping import MOST_TOP
from domain.telemetry.models import Series
from domain.telemetry.points import Kind, Metric

if TYPE_CHECKING:
    from api.graphql.anomalies import AnomalyType
    from api.graphql.forecasts import ForecastType

LazyForecast = Annotated["ForecastType", strawberry.lazy("api.graphql.forecasts")]
LazyAnomaly = Annotated["AnomalyType", strawberry.lazy("api.graphql.anomalies")]

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

    @strawberry.field(description="What `aggregation` null means.")
    def default_aggregation(root: strawberry.Parent[Metric]) -> Aggregation:
        return OF_KIND[root.kind][0]

    @strawberry.field(description="What its series can be asked for.")
    def aggregations(root: strawberry.Parent[Metric]) -> list[Aggregation]:
        return list(OF_KIND[root.kind])

    unit: str = strawberry.field(
        description="UCUM as OpenTelemetry uses it: `1` for rates, `ms`, `{payment}`; amounts are `minor`,"
        " in the account's currency; empty where nothing is known of it."
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
        return msgspec.structs.replace(points.metric(root.metric), kind=root.kind)

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
        asked = await wanted(info, root, window, most=MOST_POINTS)
        line = await info.context.loaders.lines.load(root)
        data = await info.context.loaders.data.load(readings(line, asked, window, None)[0])
        sizes = data.sample_sizes.tolist()
        return [
            Point(at=asked.at(index), value=value, sample_size=sizes[index])
            for index, value in enumerate(numbers(data))
            if value is not None
        ]

    @strawberry.field(
        description="The same points as arrays, a third of the size: at most 100,000 values. `compareTo`"
        " adds the series as it was that long before: whole intervals, days by the calendar."
    )
    async def columns(
        root: strawberry.Parent[Series],
        info: Info,
        window: SeriesWindow | None = None,
        compare_to: timedelta | None = None,
    ) -> SeriesColumns | None:
        return await (await _figures(root, info, window, compare_to)).columns(info)

    @strawberry.field(
        description="All the intervals of the window as one number, beside what it was `compareTo` before."
    )
    async def summary(
        root: strawberry.Parent[Series],
        info: Info,
        window: SeriesWindow | None = None,
        compare_to: timedelta | None = None,
    ) -> SeriesSummary | None:
        return await (await _figures(root, info, window, compare_to)).summary(info)

    @strawberry.field(
        graphql_type=list[SeriesGroupType] | None,
        description="Split by the label `by`: the `top` (1 to 20) largest values by sum or sample, largest"
        " first, then one group of all others. Together they are this series; where it is ingested, they are"
        " all series of its metric that fix at least its labels.",
    )
    async def breakdown(
        root: strawberry.Parent[Series],
        info: Info,
        by: str,
        top: int = 5,
        window: SeriesWindow | None = None,
        compare_to: timedelta | None = None,
    ) -> list[Part]:
        if not 1 <= top <= MOST_TOP:
            raise InvalidInput(f"`top` must be from 1 to {MOST_TOP}.", path=("top",))
        asked = await wanted(info, root, window, compare_to=compare_to)
        split = Split(root.id, by, top, asked, series=root)
        groups = await info.context.loaders.groups.load(split)
        figures = [Figures(*readings(group.line, asked, window, compare_to)) for group in groups]
        return [Part(root, by, *pair) for pair in zip(groups, figures, strict=True)]

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


async def _figures(
    series: Series, info: Info, window: SeriesWindow | None, compare_to: timedelta | None
) -> Figures:
    asked = await wanted(info, series, window, compare_to=compare_to)
    line = await info.context.loaders.lines.load(series)
    return Figures(*readings(line, asked, window, compare_to))


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

"""What a series or a part of it came to, as it is published: points, columns, a summary, its groups."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import numpy as np
import strawberry

from api.graphql.context import Info
from api.graphql.scalars import SafeInt
from api.graphql.series_loaders import Reading
from domain.telemetry import points
from domain.telemetry.grouping import Group
from domain.telemetry.models import Series
from domain.telemetry.queries import SeriesData
from domain.telemetry.series import fingerprint
from domain.telemetry.windows import Resolution

if TYPE_CHECKING:
    from api.graphql.telemetry import SeriesType

LazySeries = Annotated["SeriesType", strawberry.lazy("api.graphql.telemetry")]


@strawberry.type(
    description="What a series came to in the interval that begins `at`. `sampleSize` is the number of"
    " events behind a value: a rate of 3 payments is not a rate. For amounts, and for levels that are not"
    " observed one by one, it is the number of minutes with data; for percentiles that of the observations"
    " whose distribution is known."
)
class Point:
    at: datetime
    value: float
    sample_size: SafeInt


@strawberry.type(
    description="Arrays over one regular grid: index i is the interval that begins at start + i * step,"
    " where days are those of the account's time zone and so of 23 to 25 hours."
)
class SeriesColumns:
    start: datetime
    step: timedelta
    resolution: Resolution
    values: list[float | None] = strawberry.field(description="Null where an interval has no data.")
    sample_sizes: list[SafeInt] = strawberry.field(
        description="Events behind each value, as in `Point`; 0 where there is none."
    )
    previous: list[float | None] = strawberry.field(
        description="`values` as they were `compareTo` before, index by index; empty without it."
    )


@strawberry.type(description="A window as one number, with what it is compared to. All null without data.")
class SeriesSummary:
    value: float | None = strawberry.field(
        description="Over all intervals of the window: the sum of counts and amounts, the quotient of the"
        " summed counts of a rate, the mean or percentile of all observations."
    )
    previous: float | None = strawberry.field(
        description="The same of the window `compareTo` before; null without it."
    )
    change: float | None = strawberry.field(
        description="value / previous - 1; null where `previous` is 0 or null."
    )
    sample_size: SafeInt = strawberry.field(description="Events behind `value`, as in `Point`.")


@dataclass(frozen=True)
class Figures:
    """What a line came to in a window and, where it is compared, in the one before."""

    reading: Reading
    earlier: Reading | None

    async def columns(self, info: Info) -> SeriesColumns:
        load = info.context.loaders.data.load
        data = await load(self.reading)
        return SeriesColumns(
            start=data.window.start,
            step=data.window.resolution.step,
            resolution=data.window.resolution,
            values=numbers(data),
            sample_sizes=data.sample_sizes.tolist(),
            previous=numbers(await load(self.earlier)) if self.earlier else [],
        )

    async def summary(self, info: Info) -> SeriesSummary:
        load = info.context.loaders.summaries.load
        found = await load(self.reading)
        previous = (await load(self.earlier)).value if self.earlier else None
        return SeriesSummary(
            value=found.value,
            previous=previous,
            change=found.value / previous - 1 if found.value is not None and previous else None,
            sample_size=SafeInt(found.sample_size),
        )


def numbers(data: SeriesData) -> list[float | None]:
    """Values with None for no data: JSON has no NaN."""
    values: list[float | None] = data.values.tolist()
    for index in np.flatnonzero(np.isnan(data.values)):
        values[index] = None
    return values


@dataclass(frozen=True)
class Part:
    """A group of a series that was split by a label."""

    whole: Series
    by: str
    group: Group
    figures: Figures


@strawberry.type(
    name="SeriesGroup",
    description="One part of a series: the events whose label has one value, or all others.",
)
class SeriesGroupType:
    @strawberry.field(description="The label's value; null for the others, and for events without the label.")
    def value(root: strawberry.Parent[Part]) -> str | None:
        return root.group.value

    @strawberry.field(description="True: all values beyond the top, as one.")
    def is_other(root: strawberry.Parent[Part]) -> bool:
        return root.group.is_other

    @strawberry.field(
        description="Part of the whole: of the sum of counts and amounts, of the sample of all else."
    )
    def share(root: strawberry.Parent[Part]) -> float:
        return root.group.share

    @strawberry.field(description="The window as one number.")
    async def summary(root: strawberry.Parent[Part], info: Info) -> SeriesSummary | None:
        return await root.figures.summary(info)

    @strawberry.field(description="The window as arrays.")
    async def columns(root: strawberry.Parent[Part], info: Info) -> SeriesColumns | None:
        return await root.figures.columns(info)

    @strawberry.field(
        graphql_type=LazySeries | None,
        description="To go on from here: the series that fixes the label besides what the whole fixes. Null"
        " where there is none, as for the others.",
    )
    async def series(root: strawberry.Parent[Part], info: Info) -> Series | None:
        if root.group.value is None:
            return None
        whole = root.whole
        fixed = points.labels({**whole.labels, root.by: root.group.value})
        mark = fingerprint(whole.metric, fixed, measured=whole.is_measured)
        return await info.context.loaders.series_by_mark.load((whole.account_id, mark))

"""Which points of a series are asked for: the input, and the window of the domain that it means."""

from datetime import timedelta

import strawberry

from api.graphql import filters
from api.graphql.context import Info
from api.graphql.series_loaders import Reading
from domain.core.errors import InvalidInput
from domain.telemetry import steps, windows
from domain.telemetry.aggregations import OF_MINUTES, Aggregation, chosen
from domain.telemetry.lines import Line
from domain.telemetry.models import Series
from domain.telemetry.windows import Resolution, Window

MOST_POINTS, MOST_VALUES = 5_000, 100_000


@strawberry.input(description="Which points. One variable serves every field of a chart.")
class SeriesWindow:
    range: filters.TimeRange = strawberry.field(
        default_factory=lambda: filters.TimeRange(last=timedelta(days=1)),
        description="Whole intervals of it: both ends are rounded down, so that the last one is over.",
    )
    resolution: Resolution | None = strawberry.field(
        default=None,
        description="Null: the finest that gives at most 400 points and is still kept, or else days.",
    )
    aggregation: Aggregation | None = strawberry.field(
        default=None,
        description="Null: the metric's own. One that the metric does not have is BAD_USER_INPUT.",
    )


async def wanted(
    info: Info,
    series: Series,
    asked: SeriesWindow | None,
    *,
    most: int = MOST_VALUES,
    compare_to: timedelta | None = None,
) -> Window:
    """The window, in days of the account. InvalidInput where it, or the one before, cannot be told."""
    asked = asked or SeriesWindow()
    chosen(series.kind, asked.aggregation)
    from_, until = asked.range.bounds(info.context.now)
    kept = windows.kept_since(info.context.process.settings, info.context.now)
    before = max(compare_to or timedelta(), timedelta())
    resolution = asked.resolution or windows.finest(from_, until, kept=kept, before=before)
    window = Window(from_, until, resolution)
    if resolution is Resolution.DAY:
        account = await info.context.loaders.accounts.load(series.account_id)
        window = Window(from_, until, resolution, steps.zone(account.time_zone) if account else window.zone)
    window.require_at_most(most)
    if compare_to is not None:
        window.earlier(compare_to)
    if asked.aggregation in OF_MINUTES:
        window.intervals.in_minutes()
        if window.start - before < kept[Resolution.MINUTE]:
            raise InvalidInput(
                f"{asked.aggregation} is read of minutes, and these are kept since"
                f" {kept[Resolution.MINUTE]:%Y-%m-%dT%H:%MZ} only.",
                path=("window", "aggregation"),
            )
    return window


def readings(
    line: Line, window: Window, asked: SeriesWindow | None, compare_to: timedelta | None
) -> tuple[Reading, Reading | None]:
    """Of the window, and of the one before to which it is compared."""
    aggregation = asked.aggregation if asked else None
    now = Reading(line, window, aggregation)
    return now, None if compare_to is None else Reading(line, window.earlier(compare_to), aggregation)

"""The loaders of what series came to: all that share a window and an aggregation are read at once."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from uuid import UUID

from sqlalchemy import select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession
from strawberry.dataloader import DataLoader

from api.graphql.batching import Batches, V
from domain.telemetry import grouping, lines
from domain.telemetry import queries as telemetry
from domain.telemetry.aggregations import Aggregation
from domain.telemetry.grouping import Group
from domain.telemetry.lines import Line
from domain.telemetry.models import Series
from domain.telemetry.queries import SeriesData, Summary
from domain.telemetry.windows import Window


@dataclass(frozen=True)
class Reading:
    """What one line came to over a window."""

    line: Line
    window: Window
    aggregation: Aggregation | None


@dataclass(frozen=True)
class Split:
    """The largest groups of one series over a window; equal for the same series."""

    series_id: UUID
    by: str
    top: int
    window: Window
    series: Series = field(compare=False)

    @property
    def alike(self) -> tuple[str, int, Window]:
        return self.by, self.top, self.window


class SeriesLoaders(Batches):
    """Those of series; a series is known by its row."""

    @cached_property
    def series_by_mark(self) -> DataLoader[tuple[UUID, bytes], Series | None]:
        """By account and fingerprint."""

        async def load(keys: list[tuple[UUID, bytes]]) -> list[Series | None]:
            principal = self._context.principal
            statement = select(Series).where(
                tuple_(Series.account_id, Series.fingerprint).in_(keys), telemetry.visible(principal.kind)
            )
            async with self._context.read() as session:
                rows = await session.scalars(statement, principal.binds())
            found = {(row.account_id, row.fingerprint): row for row in rows}
            return [found.get(one) for one in keys]

        return DataLoader(load_fn=load)

    @cached_property
    def lines(self) -> DataLoader[Series, Line]:
        """The measured series that each is made of."""

        async def load(series: list[Series]) -> list[Line]:
            async with self._context.read() as session:
                return await lines.of(session, series)

        return DataLoader(load_fn=load, cache_key_fn=lambda series: series.id)

    @cached_property
    def data(self) -> DataLoader[Reading, SeriesData]:
        return self._readings(telemetry.read)

    @cached_property
    def summaries(self) -> DataLoader[Reading, Summary]:
        return self._readings(telemetry.summarize)

    def _readings(
        self, read: Callable[[AsyncSession, Sequence[Line], Window, Aggregation | None], Awaitable[list[V]]]
    ) -> DataLoader[Reading, V]:
        """In a fixed number of statements for all lines that share window and aggregation."""

        async def load(readings: list[Reading]) -> list[V]:
            found: dict[Reading, V] = {}
            for window, aggregation in {(one.window, one.aggregation): None for one in readings}:
                alike = [one for one in readings if (one.window, one.aggregation) == (window, aggregation)]
                async with self._context.read() as session:
                    values = await read(session, [one.line for one in alike], window, aggregation)
                found.update(zip(alike, values, strict=True))
            return [found[reading] for reading in readings]

        return DataLoader(load_fn=load)

    @cached_property
    def groups(self) -> DataLoader[Split, list[Group]]:
        """In a fixed number of statements for all series that are split alike."""

        async def load(splits: list[Split]) -> list[list[Group]]:
            found: dict[Split, list[Group]] = {}
            for by, top, window in {one.alike: None for one in splits}:
                alike = [one for one in splits if one.alike == (by, top, window)]
                async with self._context.read() as session:
                    series = [one.series for one in alike]
                    groups = await grouping.break_down(session, series, window, by=by, top=top)
                found.update(zip(alike, groups, strict=True))
            return [found[split] for split in splits]

        return DataLoader(load_fn=load)

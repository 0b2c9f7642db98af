"""Splits series by a label: the largest values, and one group of all others; together they are the series."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.telemetry import lines, values
from domain.telemetry.aggregations import Floats
from domain.telemetry.lines import Line, Numbers
from domain.telemetry.models import Series
from domain.telemetry.points import Kind
from domain.telemetry.windows import Window

MOST_TOP = 20


@dataclass(frozen=True)
class Group:
    """The parts of a series whose label has this `value` (None: that have no such label), or all others.

    `share` is its part of the sum, or of the sample where values do not add up; 0 where there is nothing.
    """

    value: str | None
    is_other: bool
    share: float
    line: Line


async def break_down(
    session: AsyncSession, series: Sequence[Series], window: Window, *, by: str, top: int
) -> list[list[Group]]:
    """Of each of `series` the `top` largest groups of the label `by`, largest first, and then the others.

    A group without data is among the others; there are none where no part is left. A derived series is
    split into what it is made of; a measured one into those of its metric and kind whose labels contain its
    own, itself among them.
    """
    siblings = await lines.measured(session, [lines.key(one) for one in series])
    wholes = [lines.whole(one, siblings[lines.key(one)]) for one in series]
    sizes = await _sizes(session, wholes, window)
    return [
        _groups(whole, size, siblings[lines.key(one)].by_value(whole.parts, by), top)
        for one, whole, size in zip(series, wholes, sizes, strict=True)
    ]


def _groups(whole: Line, sizes: Floats, of_value: Mapping[str | None, Numbers], top: int) -> list[Group]:
    """By `sizes` of the parts; of groups of the same size the first value comes first."""

    def size(parts: Numbers) -> float:
        return float(sizes[np.searchsorted(whole.parts, parts)].sum())

    def group(value: str | None, parts: Numbers, *, is_other: bool) -> Group:
        return Group(value, is_other, size(parts) / total if total > 0 else 0.0, whole.part(parts))

    total = float(sizes.sum())
    size_of = {value: size(parts) for value, parts in of_value.items()}
    known = [value for value in of_value if size_of[value] > 0]
    ranked = sorted(known, key=lambda value: (-size_of[value], value is not None, value or ""))[:top]
    groups = [group(value, of_value[value], is_other=False) for value in ranked]
    rest = [parts for value, parts in of_value.items() if value not in ranked]
    if rest:
        groups.append(group(None, np.sort(np.concatenate(rest)), is_other=True))
    return groups


async def _sizes(session: AsyncSession, wholes: Sequence[Line], window: Window) -> list[Floats]:
    """How large each part of each line is: its sum, or its sample where values do not add up."""
    members = values.Members(wholes)
    value, count = np.zeros((2, len(members.keys)))
    async for _, grid in values.grids(session, members, window.whole):
        value, count = grid.value[:, 0], grid.count[:, 0]
    return [
        (count if one.kind in (Kind.DISTRIBUTION, Kind.GAUGE) else value)[members.rows(one, one.parts)]
        for one in wholes
    ]

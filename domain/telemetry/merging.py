"""What rows that apply one after the other come to, for each series of each block."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import sketches
from domain.telemetry.blocks import Cells, has_any
from domain.telemetry.sketches import Sketches


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """N rows in the order in which they apply: to the series `number[i]` of the block `block[i]`.

    A row that `replaces` takes the place of all before it; the others add up.
    """

    block: NDArray[np.int64]
    number: NDArray[np.int32]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    replaces: NDArray[np.bool_]
    sketches: Sketches


def replacing(cells: Cells) -> Rows:
    """Cells as rows that take the place of what is there."""
    everything = np.ones(len(cells), bool)
    return Rows(cells.block, cells.number, cells.value, cells.count, everything, cells.sketches)


def concat(first: Rows, then: Rows) -> Rows:
    arrays = {
        name: np.concatenate([getattr(first, name), getattr(then, name)])
        for name in ("block", "number", "value", "count", "replaces")
    }
    return Rows(**arrays, sketches=sketches.concat([first.sketches, then.sketches]))


def merge(rows: Rows) -> Cells:
    """A cell for each series of each block, in rising order of both."""
    if not len(rows.block):
        return Cells(rows.block, rows.number, rows.value, rows.count, rows.sketches)
    key = (rows.block << 32) | rows.number.astype(np.int64)
    order = np.argsort(key, kind="stable")
    key = key[order]
    is_first = np.r_[True, key[1:] != key[:-1]]
    starts, group = np.flatnonzero(is_first), np.cumsum(is_first) - 1
    applies = _applies(rows.replaces[order], starts, group)
    return Cells(
        rows.block[order][starts],
        rows.number[order][starts],
        np.add.reduceat(np.where(applies, rows.value[order], 0.0), starts),
        np.add.reduceat(np.where(applies, rows.count[order], 0), starts),
        _merged_sketches(rows.sketches, order[applies], group[applies], len(starts)),
    )


def add(cells: Cells) -> Cells:
    """The sum of the cells of each series of each block."""
    nothing = np.zeros(len(cells), bool)
    return merge(Rows(cells.block, cells.number, cells.value, cells.count, nothing, cells.sketches))


def _applies(
    replaces: NDArray[np.bool_], starts: NDArray[np.int64], group: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """What stands before the last replacement of its group is without effect."""
    if not replaces.any():
        return np.ones(len(replaces), bool)
    position = np.arange(len(replaces))
    last = np.maximum.reduceat(np.where(replaces, position, -1), starts)
    return position >= last[group]


def _merged_sketches(
    found: Sketches, rows: NDArray[np.int64], group: NDArray[np.int64], groups: int
) -> Sketches:
    if not has_any(found):
        return sketches.none(groups)
    return sketches.merge(sketches.take(found, rows), group, groups)

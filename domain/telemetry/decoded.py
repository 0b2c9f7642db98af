"""What a body holds once decoded: rows of points by slot, and the data points that were refused."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from domain.telemetry.points import Problem
from domain.telemetry.sketches import Sketches


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """N rows in the order in which they apply; `sources` are the names that `source` points into.

    `at` is the epoch second at which the minute begins, `value` what adds up, `count` the observations
    behind it (0 where they are not observed one by one), `mode` a `Mode`; `start` and `time`
    (nanoseconds) are 0 but for CUMULATIVE. `number` is the line or data point, from 1.
    """

    slot: NDArray[np.int32]
    source: NDArray[np.int32]
    sources: tuple[str, ...]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    mode: NDArray[np.uint8]
    start: NDArray[np.int64]
    time: NDArray[np.int64]
    number: NDArray[np.int32]
    sketches: Sketches
    problems: list[Problem] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.slot)

"""Spans added up to rows: each counts in a series of requests and is an observation of one of latency."""

import numpy as np

from domain.telemetry import points, sketches
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import Mode, Problem


class Rows:
    """One row for each series, source and minute, in the order in which they were first told of."""

    def __init__(self) -> None:
        self._sources: dict[str, int] = {}
        self._rows: dict[tuple[int, int, int], int] = {}  # by slot, source and minute
        self._numbers: list[int] = []  # of the first span of each
        # Of each span: the row that it counts in, the row that it is observed in, and how long it took.
        self._requests: list[int] = []
        self._latencies: list[int] = []
        self._ms: list[float] = []

    def add(self, number: int, requests: int, latency: int, *, source: str, end: int, ms: float) -> None:
        """A span that took `ms` until the epoch second `end`, with the slots of its two series."""
        belongs = self._sources.setdefault(source, len(self._sources)), points.minute(end)
        self._requests.append(self._row((requests, *belongs), number))
        self._latencies.append(self._row((latency, *belongs), number))
        self._ms.append(ms)

    def _row(self, key: tuple[int, int, int], number: int) -> int:
        row = self._rows.setdefault(key, len(self._rows))
        if row == len(self._numbers):
            self._numbers.append(number)
        return row

    def decoded(self, problems: list[Problem]) -> Decoded:
        """The rows, all of them increments; the value of latency is the sum of its observations in ms."""
        n = len(self._rows)
        keys = np.array(list(self._rows), np.int64).reshape(n, 3)
        requests, latencies = np.array(self._requests, np.int64), np.array(self._latencies, np.int64)
        ms = np.array(self._ms, np.float64)
        counted = np.bincount(requests, minlength=n).astype(np.float64)
        return Decoded(
            slot=keys[:, 0].astype(np.int32),
            source=keys[:, 1].astype(np.int32),
            sources=tuple(self._sources),
            at=keys[:, 2],
            value=counted + np.bincount(latencies, ms, minlength=n),
            count=np.bincount(latencies, minlength=n),
            mode=np.full(n, Mode.ADD, np.uint8),
            start=np.zeros(n, np.int64),
            time=np.zeros(n, np.int64),
            number=np.array(self._numbers, np.int32),
            sketches=sketches.of_values(ms, rows=latencies, n=n),
            problems=problems,
        )

"""The simulated platform as the detectors see it: every watched node, and what it counts minute by minute."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry.derived import ATTEMPTED, AUTHORIZATION_RATE, COMPLETION_RATE, watched
from ops.simulation.model import Day, simulated_day
from ops.simulation.specification import Merchant, Specification

FloatArray = NDArray[np.float64]

RATES = (AUTHORIZATION_RATE, COMPLETION_RATE)
METRICS = (ATTEMPTED, *RATES)

# What is left of the effect of an incident of each kind in a hard world.
_HARD = {"rate_drop": 0.4, "slow_drift": 0.5, "traffic_drop": 0.6, "latency_rise": 0.35}


@dataclass(frozen=True)
class Node:
    """An account's total (no labels), or what has one value of one label; `cells` index the world's."""

    account: Merchant
    labels: Mapping[str, str]
    cells: frozenset[int]


class Count(NamedTuple):
    """Two counts of all nodes, both (times, nodes); of a metric that is no rate `good` is the total."""

    total: FloatArray
    good: FloatArray

    def hourly(self) -> "Count":
        return Count(*(one.reshape(24, 60, -1).sum(axis=1) for one in self))


@dataclass(frozen=True)
class Platform:
    """One seed's world; all its nodes are judged, those of one account side by side."""

    spec: Specification
    seed: int

    @cached_property
    def nodes(self) -> list[Node]:
        found: dict[tuple[str, tuple[tuple[str, str], ...]], list[int]] = {}
        for index, cell in enumerate(self.spec.cells):
            for labels in watched(cell.labels):
                found.setdefault((cell.account.id, tuple(labels.items())), []).append(index)
        return [
            Node(self.spec.cells[cells[0]].account, dict(labels), frozenset(cells))
            for (_, labels), cells in found.items()
        ]

    @cached_property
    def _parts(self) -> FloatArray:
        """(cells, nodes): 1 where the cell is part of the node."""
        cells = range(len(self.spec.cells))
        return np.array([[float(index in node.cells) for node in self.nodes] for index in cells])

    def day(self, day: date) -> dict[str, Count]:
        """The counts of each minute of a UTC day, by metric."""
        simulated = simulated_day(self.spec, self.seed, day)
        return {
            metric.name: Count(
                self._over(simulated, metric.total), self._over(simulated, metric.good or metric.total)
            )
            for metric in METRICS
        }

    def _over(self, day: Day, outcomes: Iterable[str]) -> FloatArray:
        cells = [counts for (outcome, _), counts in day.ends.items() if outcome in outcomes]
        total: FloatArray = np.sum(cells, axis=0) @ self._parts
        return total


def hardened(spec: Specification) -> Specification:
    """The same incidents at the same places and times, but of about half their effect."""
    incidents = spec.effects["incidents"]
    kinds = [
        {**kind, "effect": [_HARD[kind["kind"]] * effect for effect in kind["effect"]]}
        for kind in incidents["kinds"]
    ]
    return replace(spec, effects={**spec.effects, "incidents": {**incidents, "kinds": kinds}})

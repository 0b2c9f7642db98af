"""The numbers of a simulated UTC day: attempts, how they ended, amounts and latency.

They depend on (specification, seed, day, extra incidents) alone, so any day is reached without those before.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ops.simulation import noise
from ops.simulation.scene import Scene
from ops.simulation.schedule import Incident
from ops.simulation.specification import Specification, named_rng

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# How an attempt ended: its outcome, and the code of a decline.
End = tuple[str, str | None]

# No sum of payments (or of latencies) falls below this part of its mean.
_LEAST = 0.2


@dataclass(frozen=True)
class Day:
    """Arrays (1440, cells): attempts by how they ended; minor units approved; the sum of latencies in ms."""

    ends: dict[End, FloatArray]
    amount: FloatArray
    latency_ms: FloatArray

    @property
    def attempts(self) -> FloatArray:
        total: FloatArray = np.sum(list(self.ends.values()), axis=0)
        return total


def simulated_day(spec: Specification, seed: int, day: date, *, extra: Sequence[Incident] = ()) -> Day:
    """The day's numbers, with the incidents of the schedule and `extra` ones."""
    scene = Scene(spec, seed, day, extra)
    rng = named_rng(seed, "minutes", scene.number)
    attempts = _attempts(scene, rng)
    ends = _ends(scene, rng, attempts)
    tickets = np.array([cell.account.ticket_minor for cell in spec.cells], dtype=np.float64)
    amount = _sum_of(rng, ends["approved", None], spec.effects["amount"]["single_deviation"])
    latency = _sum_of(rng, attempts, spec.effects["latency"]["single_deviation"])
    return Day(ends, np.rint(tickets * amount), _latency(scene) * latency)


def _sum_of(rng: np.random.Generator, counts: FloatArray, deviation: float) -> FloatArray:
    """Sums of `counts` values of mean 1."""
    sums = counts + deviation * np.sqrt(counts) * rng.normal(size=counts.shape)
    return np.maximum(sums, _LEAST * counts)


def _attempts(scene: Scene, rng: np.random.Generator) -> FloatArray:
    effects, cells = scene.spec.effects["volume"], scene.spec.cells
    names = [account.id for account in scene.spec.accounts]
    levels = noise.day_level(scene.seed, names, scene.number, deviation=effects["day_deviation"])
    logs = _usual_volume(scene) + scene.slow_noise("volume")
    logs += levels[:, [names.index(cell.account.id) for cell in cells]]
    logs += scene.spec.effects["traps"]["sales_day"]["log"] * scene.sales
    for incident in scene.incidents:
        if incident.kind == "traffic_drop":
            logs += np.log1p(-incident.effect * scene.extent(incident))
    size = 1 / effects["dispersion"]
    return rng.poisson(np.exp(logs) * rng.gamma(size, 1 / size, logs.shape)).astype(np.float64)


def _usual_volume(scene: Scene) -> FloatArray:
    """Log attempts a minute by time of day, weekend and holiday where the customers are."""
    effects = scene.spec.effects
    curves, weekends = {}, {}
    for country in scene.spec.world["countries"]:
        hours, weekend, holiday = scene.local(country)
        waves = [
            wave["amplitude"] * np.sin(2 * np.pi * wave["harmonic"] * (hours / 24 - wave["phase"]))
            for wave in effects["volume"]["curve"]
        ]
        curve = np.sum(waves, axis=0)
        curves[country] = curve - np.log(np.exp(curve).mean()) + effects["traps"]["holiday"] * holiday
        weekends[country] = weekend
    columns = []
    for cell in scene.spec.cells:
        draw = effects["volume"]["weekend"]
        slower = draw["mean"] + draw["deviation"] * named_rng("weekend", cell.account.id).normal()
        level = np.log(cell.share * cell.account.attempts_per_day / 1440)
        columns.append(level + curves[cell.country] + slower * weekends[cell.country])
    return np.stack(columns, axis=1)


def _ends(scene: Scene, rng: np.random.Generator, attempts: FloatArray) -> dict[End, FloatArray]:
    """Attempts by how they ended: approved, lost to incidents, and the usual rest."""
    chance = _approval(scene)
    losses: list[tuple[End, FloatArray]] = []
    for incident in scene.incidents:
        if incident.kind in ("rate_drop", "slow_drift"):
            lost = chance * incident.effect * scene.extent(incident)
            losses.append(((incident.outcome, incident.code), lost))
            chance = chance - lost
    counts = attempts.astype(np.int64)
    approved = rng.binomial(counts, chance)
    ends: dict[End, FloatArray] = {("approved", None): approved.astype(np.float64)}
    rest, share = counts - approved, 1 - chance
    for end, lost in losses:
        rest = _take(rng, ends, end, rest, np.clip(lost / share, 0, 1))
        share = share - lost
    left = 1.0
    for end, part in _usual_ends(scene.spec):
        rest = _take(rng, ends, end, rest, np.full(rest.shape, min(1.0, part / left)))
        left -= part
    return ends


def _take(
    rng: np.random.Generator,
    ends: dict[End, FloatArray],
    end: End,
    rest: IntArray,
    chance: FloatArray,
) -> IntArray:
    """Let a part of the `rest` end so; returns what is left."""
    taken = rng.binomial(rest, chance)
    ends[end] = ends.get(end, np.zeros(rest.shape)) + taken
    left: IntArray = rest - taken
    return left


def _usual_ends(spec: Specification) -> list[tuple[End, float]]:
    """How attempts that are not approved usually end; the shares sum to 1."""
    outcomes = dict(spec.effects["outcomes"])
    declined = outcomes.pop("declined")
    codes = spec.effects["decline_codes"].items()
    ends: list[tuple[End, float]] = [(("declined", code), declined * part) for code, part in codes]
    return ends + [((outcome, None), part) for outcome, part in outcomes.items()]


def _approval(scene: Scene) -> FloatArray:
    """The chance that an attempt is approved, without incidents."""
    effects, sales = scene.spec.effects["rate"], scene.spec.effects["traps"]["sales_day"]
    logits = effects["logit"] + _offsets(scene, "rate", ("partner", "method", "country", "issuer"))
    logits = logits + effects["curve"] * _wave() + sales["rate_logit"] * scene.sales
    chance: FloatArray = 1 / (1 + np.exp(-(logits + scene.slow_noise("rate"))))
    return chance


def _latency(scene: Scene) -> FloatArray:
    """The mean latency in ms."""
    effects, sales = scene.spec.effects["latency"], scene.spec.effects["traps"]["sales_day"]
    logs = np.log(effects["ms"]) + _offsets(scene, "latency", ("partner", "method"))
    logs = logs + effects["curve"] * _wave() + sales["latency_log"] * scene.sales
    logs = logs + scene.slow_noise("latency")
    for incident in scene.incidents:
        if incident.kind == "latency_rise":
            logs = logs + np.log1p(incident.effect * scene.extent(incident))
    mean_ms: FloatArray = np.exp(logs)
    return mean_ms


def _offsets(scene: Scene, what: str, kinds: Sequence[str]) -> FloatArray:
    """(cells,): the fixed deviations of all that each cell belongs to."""
    deviations = scene.spec.effects[what]
    return np.array(
        [
            sum(
                deviations[f"{kind}_deviation"] * named_rng(what, kind, cell.name_of(kind)).normal()
                for kind in kinds
            )
            for cell in scene.spec.cells
        ]
    )


def _wave() -> FloatArray:
    wave: FloatArray = np.sin(2 * np.pi * np.arange(1440) / 1440)[:, None]
    return wave

"""How well the detectors find the labelled incidents of a simulated platform: `-m benchmarks.payments`.

14 days are history, as of an account that was just imported; the 16 after them are judged minute by
minute, as the service does it where no forecast was fitted: one set of constants, never looking ahead.

- `recall`: the share of all incidents that began and ended in those days and were found. Nothing watches
  latency yet, so incidents of latency are missed.
- `precision`: incidents found / (incidents found + false alarms). However many accounts an incident
  reaches, it counts once; a false alarm counts for every account that gets it.
- `minutes_to_detect`: from the incident's start to the end of the minute that raised the alarm, median.
- `false_alarms_per_day`: on the whole platform (20 accounts).

With --hard the incidents have about half their effect.
"""

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import click
import numpy as np

from benchmarks import scoring
from benchmarks.expected import Expected, Season
from benchmarks.scoring import FAMILY, RATE, VOLUME, Episode, Label, Score
from benchmarks.watched import RATES, Count, Node, Platform, hardened
from domain.anomalies import detectors
from domain.anomalies.episodes import Phase, Transition
from domain.anomalies.state import State
from domain.telemetry.derived import ATTEMPTED
from ops.simulation import schedule, specification
from ops.simulation.schedule import Incident

# Clocks go back and holidays fall in these days.
FIRST = date(2026, 10, 19)
HISTORY_DAYS, JUDGED_DAYS = 14, 16
_MINUTE = timedelta(minutes=1)


@click.command()
@click.option("--seed", type=int, required=True, help="The world; its incidents depend on it.")
@click.option("--hard", is_flag=True, help="Incidents of about half the effect.")
def main(seed: int, hard: bool) -> None:
    """Judge 16 days of a simulated platform and hold the alarms against its labels."""
    spec = specification.load()
    platform = Platform(hardened(spec) if hard else spec, seed)
    began = time.monotonic()
    found = list(episodes(platform))
    print(f"{len(platform.nodes)} nodes judged for {JUDGED_DAYS} days in {time.monotonic() - began:.0f} s")
    labels, also = labelled(platform)
    result = scoring.score(labels, scoring.alarms(found), also=also)
    _explain(labels, result)
    print(json.dumps(_figures(result)))


def episodes(platform: Platform) -> Iterator[Episode]:
    """What fires in the judged days, in the order in which it ends (what lasts comes last)."""
    season, judging = Season(platform.nodes), _Judging(platform.nodes)
    for number in range(HISTORY_DAYS + JUDGED_DAYS):
        day = FIRST + timedelta(days=number)
        start, counts = _midnight(day), platform.day(day)
        season.learn(start, counts)
        if number >= HISTORY_DAYS:
            yield from judging.judge(start, counts, season.expect(start))
    yield from judging.open.values()


class _Judging:
    """The detectors of all nodes: rates, each metric's nodes after the other's, and volume."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.rates, self.volume = State.fresh(len(RATES) * len(nodes)), State.fresh(len(nodes))
        self.open: dict[tuple[str, int], Episode] = {}

    def judge(self, start: datetime, counts: Mapping[str, Count], expected: Expected) -> Iterator[Episode]:
        """The episodes that end in the day."""
        at = np.arange(1440) + int(start.timestamp()) // 60
        attempts, good, usual = (
            np.concatenate(arrays, axis=1)
            for arrays in zip(*((*counts[m.name], expected.of[m.name]) for m in RATES), strict=True)
        )
        begun = np.maximum.accumulate(attempts > 0, axis=0) | np.isfinite(self.rates.first_seen)
        rates = detectors.judge_rates(
            self.rates, at=at, attempts=np.where(begun, attempts, np.nan), good=good, expected=usual
        )
        volume = detectors.judge_volume(
            self.volume,
            at=at,
            attempts=counts[ATTEMPTED.name].total,
            expected=expected.of[ATTEMPTED.name],
            calendar=expected.spread,
        )
        for family, judgement in ((RATE, rates), (VOLUME, volume)):
            for change in judgement.transitions:
                yield from self._follow(family, change)

    def _follow(self, family: str, change: Transition) -> Iterator[Episode]:
        key, at = (family, change.node), _time(change.at) + _MINUTE
        node = self.nodes[change.node % len(self.nodes)]
        if (change.before, change.after) == (Phase.PENDING, Phase.FIRING):
            self.open[key] = Episode(node.account.id, family, node.cells, at)
        elif change.after is Phase.CLOSED:
            one = self.open.pop(key)
            yield Episode(one.account, family, one.cells, one.fired_at, closed_at=at)


def labelled(platform: Platform) -> tuple[list[Label], list[Label]]:
    """The incidents to be found, and those that the judged days cut off."""
    start = _midnight(FIRST + timedelta(days=HISTORY_DAYS))
    end = start + timedelta(days=JUDGED_DAYS)
    found = schedule.incidents(platform.spec, platform.seed, start=start - scoring.LATE, end=end)
    whole = [one for one in found if start <= one.start and one.end <= end]
    cut = [one for one in found if one not in whole]
    return [_label(platform, one) for one in whole], [_label(platform, one) for one in cut]


def _label(platform: Platform, one: Incident) -> Label:
    cells = (index for index, cell in enumerate(platform.spec.cells) if cell.has(one.where))
    return Label(one.kind, frozenset(cells), one.start, one.end)


def _explain(labels: Sequence[Label], result: Score) -> None:
    for kind in sorted({label.kind for label in labels}):
        minutes = [m for label, m in zip(labels, result.minutes, strict=True) if label.kind == kind]
        of_kind = Score(minutes, 0, 0)
        watched = f"median {of_kind.minutes_to_detect} minutes" if kind in FAMILY else "not watched"
        print(f"{kind:13} {len(of_kind.found):2} of {len(minutes):2} found, {watched}")
    print(f"{result.true_alarms} alarms of single accounts were true, {result.false_alarms} false")


def _figures(result: Score) -> dict[str, float | None]:
    figures = {
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "minutes_to_detect": result.minutes_to_detect,
        "false_alarms_per_day": result.false_alarms / JUDGED_DAYS,
    }
    return {name: None if value is None else round(value, 4) for name, value in figures.items()}


def _midnight(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def _time(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch * 60, UTC)


if __name__ == "__main__":
    main()

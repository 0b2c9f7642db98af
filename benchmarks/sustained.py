"""The whole system under a stream of OTLP protobuf at real pace: `python -m benchmarks.ingest --sustained M`.

`vitals up` runs in a temporary directory, with its workers, relay, beat, Postgres and broker. The pods of
`benchmarks.fleet` push for M minutes, each every 10 seconds: 52,000 points a second in bodies of 2,000, on
CONNECTIONS connections, due at even distances whatever the system answers. Before that, hours of history are
sent, so that rates are judged in earnest, and the demonstration's forecasts are fitted. A 503 is obeyed
(`shed` counts them), and the body sent again.

- `points_per_s`: points acknowledged, by the time from the first push to the last acknowledgement.
- `lag_s`: the longest that the oldest batch of the log waited, looked at each second.
- `readable_s`: from the acknowledgement of a point sent each second to its being read through GraphQL.
- `acknowledged_s`: from the time that a push is due to its acknowledgement.
- `cpu_us_per_point`: CPU time of all processes but the sender, by the points acknowledged;
  `cpu_us_by_kind` has its parts.
- `memory_mb`: at start, middle and end (medians of a tenth of the run each), proportional set size by kind.
- `judged_until_lag_s`: how long ago the minute ended up to which all accounts are judged; a minute closes
  15 s after its end, so that 15 to 75 is the least. `rolled_up_lag_s`: how long ago the oldest five minutes
  ended that are not rolled up. Both of the second half of the run.

At last all that was acknowledged must be found: the sums of all series are read and compared.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import click
import numpy as np

from benchmarks import fleet, pushes
from benchmarks.comparing import compare
from benchmarks.probes import Behind, Marker, Memory
from benchmarks.pushes import BODIES, POINTS, Template, Values
from benchmarks.sending import Connection, connected
from benchmarks.system import System, system
from domain.core.ids import uuid7

CONNECTIONS = 8
_HISTORY_HOURS = 12
_SPACING_S = fleet.PUSH_S / (BODIES * fleet.PODS)
_PATIENCE_S = 600
_HISTORY = "pod-past"


@dataclass
class Stream:
    """What was sent and acknowledged: of each template the sums of what it said."""

    templates: Sequence[Template]
    rng: np.random.Generator
    sums: dict[int, Values] = field(default_factory=dict)
    acknowledged_s: list[float] = field(default_factory=list)
    points: int = 0
    shed: int = 0
    last_at: float = 0.0

    async def send(self, connection: Connection, number: int, *, due: float) -> None:
        """Push `number`, which is due at that epoch second, until it is acknowledged."""
        place, pod = number % BODIES, number // BODIES % fleet.PODS
        body, values = self.templates[place].body(f"pod-{pod:04}", self.rng, at=due)
        await self._until_acknowledged(connection, "/v1/metrics", body)
        self.last_at = time.time()
        self.acknowledged_s.append(self.last_at - due)
        self.points += POINTS
        known = self.sums.get(place)
        self.sums[place] = (
            values if known is None else Values(*(a + b for a, b in zip(known, values, strict=True)))
        )

    async def send_history(self, connection: Connection, hour: int) -> None:
        """What the whole fleet counted in the hour before that epoch second."""
        scale = 3_600 / fleet.PUSH_S * fleet.PODS
        for template in self.templates:
            # Its minute is one of that hour.
            body, _ = template.body(_HISTORY, self.rng, at=hour - 1, seconds=3_599, scale=scale)
            await self._until_acknowledged(connection, "/v1/metrics?backfill=true", body)

    async def _until_acknowledged(self, connection: Connection, path: str, body: bytes) -> None:
        key = str(uuid7())
        while True:
            reply = await connection.post(
                path, body, content_type="application/x-protobuf", idempotency_key=key
            )
            if reply.status == 200 and not reply.body:
                return
            if reply.status not in (429, 503):
                raise click.ClickException(f"A push was answered {reply.status}: {reply.body[:300]!r}")
            self.shed += 1
            await asyncio.sleep(float(reply.header("retry-after")))


async def measure(minutes: float) -> dict[str, object]:
    """The figures, in the order of the description."""
    stream = Stream(pushes.templates(), np.random.default_rng(1))
    with system() as running:
        (running.room / "fleet.yaml").write_text(fleet.catalogue())
        running.vitals("catalog", "apply", str(running.room / "fleet.yaml"))
        print(f"{fleet.ACCOUNTS} accounts of {fleet.SERIES} series; {fleet.POINTS_PER_S:,.0f} points/s")
        await _send_history(running, stream)
        await _until_fitted(running)
        behind, memory, marker = Behind(), Memory(), Marker(fleet.account(0))
        began, cpu_s = time.time(), running.cpu_s()
        async with asyncio.TaskGroup() as group:
            looking = [group.create_task(one.keep_looking(running)) for one in (behind, memory, marker)]
            await _push(running, stream, began=began, minutes=minutes)
            cpu_s = _since(cpu_s, running.cpu_s())
            for task in looking:
                task.cancel()
        await _until_folded(running)
        await compare(running, stream.sums, began=began, ended=stream.last_at)
    return {
        "points_per_s": round(stream.points / (stream.last_at - began)),
        "lag_s": round(max(behind.log), 2),
        "readable_s": _spread(marker.readable_s),
        "cpu_us_per_point": round(sum(cpu_s.values()) / stream.points * 1e6, 2),
        "cpu_us_by_kind": {kind: round(used / stream.points * 1e6, 2) for kind, used in cpu_s.items()},
        "acknowledged_s": _spread(stream.acknowledged_s),
        "shed": stream.shed,
        "memory_mb": memory.told(),
        "judged_until_lag_s": _spread(_second_half(behind.judged)),
        "rolled_up_lag_s": _spread(_second_half(behind.rolled_up)),
    }


async def _send_history(running: System, stream: Stream) -> None:
    """Hours that are over; returns once they are minutes."""
    now, keys = int(time.time()) // 3_600 * 3_600, running.credentials
    async with connected(keys.url, keys.ingest) as connection:
        for hours in range(_HISTORY_HOURS, 0, -1):
            await stream.send_history(connection, now - (hours - 1) * 3_600)
    await _until_folded(running)


async def _push(running: System, stream: Stream, *, began: float, minutes: float) -> None:
    """Every push as soon as it is due and a connection is free."""
    keys, numbers = running.credentials, iter(range(int(minutes * 60 / _SPACING_S)))

    async def push_on() -> None:
        async with connected(keys.url, keys.ingest) as connection:
            for number in numbers:
                due = began + number * _SPACING_S
                await asyncio.sleep(max(0.0, due - time.time()))
                await stream.send(connection, number, due=due)

    await asyncio.gather(*(push_on() for _ in range(CONNECTIONS)))


async def _until_folded(running: System) -> None:
    """Return once all is folded that is in the log now."""
    newest = await running.postgres.ask("SELECT coalesce(max(id), 0)::text FROM ingest_log")
    left = "SELECT EXISTS (SELECT FROM ingest_log WHERE id <= $1::text::bigint)"
    await _until_none(running, left, newest, what="The log is not folded")


async def _until_fitted(running: System) -> None:
    """Return once the forecasts are fitted that wait now; those of the demonstration do at first."""
    left = "SELECT EXISTS (SELECT FROM jobs WHERE finished_at IS NULL)"
    await _until_none(running, left, what="The demonstration's forecasts are not fitted")


async def _until_none(running: System, left: str, *parameters: str, what: str) -> None:
    deadline = time.monotonic() + _PATIENCE_S
    while await running.postgres.ask(left, *parameters):
        if time.monotonic() > deadline:
            raise click.ClickException(f"{what} after {_PATIENCE_S} s.")
        await asyncio.sleep(0.2)


def _since(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    return {kind: used - before.get(kind, 0.0) for kind, used in after.items()}


def _second_half(samples: Sequence[float]) -> Sequence[float]:
    return samples[len(samples) // 2 :]


def _spread(samples: Sequence[float]) -> dict[str, float] | None:
    if not samples:
        return None
    found = {"median": 0.5, "p99": 0.99, "max": 1.0}
    return {name: round(float(np.quantile(samples, share)), 3) for name, share in found.items()}

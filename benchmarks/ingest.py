"""How fast points are taken in, beside what Postgres alone could write: `python -m benchmarks.ingest`.

A Postgres (durable, as in production) and one API process are started in a temporary directory. In ROUNDS
rounds the raw COPY and each format have their turns; a figure is the median of its turns. No worker runs:
what is acknowledged stays in the log. The sender shares the machine, so that where cores are few
`points_per_s` is lower than a sender elsewhere would see.

- `raw_copy_points_per_s`: psql's binary COPY of a million of the same points into a plain table without index
  or key, in the narrowest form that holds them: (series int4, at timestamptz, value float8).
  `uuid_copy_points_per_s` is that of rows with the uuids of account, series and source; no ratio is to it.
- `points_per_s` of each format: points in requests that were answered, which is after their commit. Bodies
  are made before, hold 2,000 points and come on CONNECTIONS connections, each request with a new key. Series
  are known. Anything but the answer that all was taken ends the benchmark, and what was acknowledged is
  compared with what lies in the log.
- `ratio`: of `points_per_s` to the raw COPY.
- `cpu_us_per_point`: CPU time of the API process and all of Postgres (null where there is no /proc). The
  sender's is not in it, nor what workers do later.
- `otlp_decode_ratio`: see `benchmarks.decoding`; `idempotency_ratio`: see `benchmarks.keyless`.

`--sustained MINUTES` measures the whole system instead: see `benchmarks.sustained`.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain, cycle
from statistics import median
from typing import Any

import click
import msgspec

from benchmarks import bodies, copying, decoding, keyless, sustained
from benchmarks.bodies import FORMATS, NDJSON, SIZE, Format, Timed
from benchmarks.installation import Installation, installation
from benchmarks.sending import Connection, connected
from domain.core.ids import uuid7

BATCHES, CONNECTIONS = 24, 8
ROUNDS, FORMAT_S = 5, 2.0


@dataclass(frozen=True)
class Measured:
    """Points acknowledged in `elapsed_s`, and the CPU time that took."""

    points: int
    elapsed_s: float
    cpu_s: float

    @property
    def points_per_s(self) -> float:
        return self.points / self.elapsed_s

    @property
    def cpu_us_per_point(self) -> float:
        return self.cpu_s / self.points * 1e6


@click.command()
@click.option("--sustained", "minutes", type=click.FloatRange(min=0.1), help="Measure the whole system.")
def main(minutes: float | None) -> None:
    """Measure how fast points are taken in."""
    if minutes is not None:
        print(json.dumps(asyncio.run(sustained.measure(minutes))))
        return
    batches = bodies.batches(BATCHES, start=_hour(datetime.now(UTC) - timedelta(hours=4)))
    with installation() as place:
        print(json.dumps(asyncio.run(_measure(place, batches))))


async def _measure(place: Installation, batches: Sequence[Sequence[Timed]]) -> dict[str, object]:
    formats = [*FORMATS, bodies.columnar(await _introduce(place, batches))]
    written = {form.name: [form.write(batch) for batch in batches] for form in formats}
    protobuf = written["otlp_protobuf"]
    rates = decoding.measure(protobuf)
    print(f"decoding {rates.ours:,.0f} points/s, walking {rates.walk:,.0f} points/s")
    raw = await copying.narrow(place.postgres, place.room, batches)
    wide = await copying.wide(place.postgres, place.room, batches)
    raw_rates, wide_rates = [], [await wide.points_per_s()]
    turns: dict[str, list[Measured]] = {form.name: [] for form in formats}
    for number in range(ROUNDS):
        raw_rates.append(await raw.points_per_s())
        print(f"round {number + 1}: raw COPY {raw_rates[-1]:,.0f} points/s", end="", flush=True)
        for form in formats:
            found = await _turn(place, form, written[form.name])
            turns[form.name].append(found)
            print(f", {form.name} {found.points_per_s:,.0f}", end="", flush=True)
        wide_rates.append(await wide.points_per_s())
        print()
    return {
        "raw_copy_points_per_s": round(median(raw_rates)),
        "uuid_copy_points_per_s": round(median(wide_rates)),
        **{name: _figures(found, median(raw_rates)) for name, found in turns.items()},
        "otlp_decode_points_per_s": round(rates.ours),
        "otlp_walk_points_per_s": round(rates.walk),
        "otlp_decode_ratio": round(rates.ours / rates.walk, 2),
        "idempotency_ratio": round(await keyless.ratio(place.settings, protobuf), 3),
    }


def _figures(turns: Sequence[Measured], raw: float) -> dict[str, float | None]:
    points_per_s = median(one.points_per_s for one in turns)
    cpu_us = median(one.cpu_us_per_point for one in turns)
    return {
        "points_per_s": round(points_per_s),
        "ratio": round(points_per_s / raw, 3),
        "cpu_us_per_point": round(cpu_us, 3) if cpu_us else None,
    }


async def _introduce(place: Installation, batches: Sequence[Sequence[Timed]]) -> dict[bodies.Identity, int]:
    """Register all series, and send every batch once; the numbers of the series."""
    series = list(dict.fromkeys(bodies.identity(one) for _, one in chain.from_iterable(batches)))
    async with connected(place.url, place.key) as connection:
        body = bodies.registration(series)
        reply = await connection.post("/v1/series", body, content_type="application/json")
        if reply.status != 200:
            raise click.ClickException(f"The series were not registered: {reply.body[:300]!r}")
        for batch in batches:
            await _send(connection, NDJSON, NDJSON.write(batch))
    return dict(zip(series, msgspec.json.decode(reply.body)["series"], strict=True))


async def _turn(place: Installation, form: Format, written: Sequence[bytes]) -> Measured:
    """Send the bodies again and again until FORMAT_S are over; each time they are new to the server."""
    async with _connections(place) as connections:
        source = cycle(written)
        await asyncio.gather(*(_send(one, form, next(source)) for one in connections))
        await place.postgres.ask("CHECKPOINT")
        logged, cpu_s, began = await _logged(place), place.cpu_s(), time.perf_counter()

        async def send_on(connection: Connection) -> int:
            sent = 0
            while time.perf_counter() < began + FORMAT_S:
                await _send(connection, form, next(source))
                sent += SIZE
            return sent

        points = sum(await asyncio.gather(*map(send_on, connections)))
        found = Measured(points, time.perf_counter() - began, place.cpu_s() - cpu_s)
    if await _logged(place) - logged != points:
        raise click.ClickException(f"{form.name}: {points} points were acknowledged, others are in the log")
    return found


@asynccontextmanager
async def _connections(place: Installation) -> AsyncIterator[list[Connection]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(connected(place.url, place.key)) for _ in range(CONNECTIONS)]


async def _send(connection: Connection, form: Format, body: bytes) -> None:
    key = str(uuid7())
    reply = await connection.post(form.path, body, content_type=form.content_type, idempotency_key=key)
    if reply.status != 200 or reply.body != form.answer:
        raise click.ClickException(f"{form.name}: answered {reply.status}: {reply.body[:300]!r}")


async def _logged(place: Installation) -> Any:
    return await place.postgres.ask("SELECT coalesce(sum(points), 0) FROM ingest_log")


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


if __name__ == "__main__":
    main()

"""How fast points are taken in, beside what Postgres alone could write: `python -m benchmarks.ingest`.

A Postgres (durable, as in production) and one API process are started in a temporary directory.

- `raw_copy_points_per_s`: one connection, binary COPY of the same minutes into a plain table without
  index, a commit for every 12,000. Nothing is decoded, checked or looked up: it is the ceiling.
- `points_per_s` of each format: points in requests that were answered, which is after their commit.
  Bodies of 2,000 points on 4 connections, every request with a key of its own. What is acknowledged is
  compared with what lies in the log; any refusal ends the benchmark.
- `ratio`: of `points_per_s` to the raw COPY.
- `cpu_us_per_point`: CPU time of the API process and all of Postgres (null where there is no /proc).
  The sender's is not in it, nor what workers do later (folding into minutes).

The sender shares the machine: where cores are few, `points_per_s` is lower than a sender elsewhere would see.
"""

import asyncio
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from io import BytesIO
from itertools import cycle

import asyncpg
import click
import httpx

from benchmarks import bodies
from benchmarks.bodies import FORMATS, NDJSON, SIZE, Format, Timed
from benchmarks.installation import Installation, installation
from domain.core.ids import uuid7
from domain.telemetry.models import Minute

BATCHES, CONNECTIONS = 6, 4
RAW_S, FORMAT_S = 1.0, 2.0
_COLUMNS = ["account_id", "series_id", "at", "source_id", "value", "count"]


@dataclass(frozen=True)
class Measured:
    """Points acknowledged in `elapsed_s`, and the CPU time that took."""

    points: int
    elapsed_s: float
    cpu_s: float

    @property
    def points_per_s(self) -> float:
        return self.points / self.elapsed_s


@click.command()
def main() -> None:
    """Measure how fast points are taken in."""
    batches = bodies.batches(BATCHES, start=_hour(datetime.now(UTC) - timedelta(hours=2)))
    with installation() as place:
        raw = asyncio.run(_raw(place, batches))
        print(f"{'raw COPY':13} {raw:9,.0f} points/s")
        figures: dict[str, object] = {"raw_copy_points_per_s": round(raw)}
        asyncio.run(_introduce(place, batches))
        for form in FORMATS:
            found = asyncio.run(_measure(place, form, [form.write(batch) for batch in batches]))
            figures[form.name] = _figures(found, raw)
            print(f"{form.name:13} {found.points_per_s:9,.0f} points/s ({found.points:,} points)")
    print(json.dumps(figures))


def _figures(found: Measured, raw: float) -> dict[str, float | None]:
    return {
        "points_per_s": round(found.points_per_s),
        "ratio": round(found.points_per_s / raw, 3),
        "cpu_us_per_point": round(found.cpu_s / found.points * 1e6, 2) if found.cpu_s else None,
    }


async def _raw(place: Installation, batches: Sequence[Sequence[Timed]]) -> float:
    """Points a second of COPY from memory, until RAW_S are over."""
    connection = await asyncpg.connect(place.postgres.url())
    try:
        await connection.execute(f"CREATE TABLE raw AS TABLE {Minute.__tablename__} WITH NO DATA")
        copied, rows = BytesIO(), sum(map(len, batches))
        await connection.copy_records_to_table("raw", records=_records(batches), columns=_COLUMNS)
        await connection.copy_from_table("raw", output=copied, format="binary")
        points, began = 0, time.perf_counter()
        while time.perf_counter() < began + RAW_S:
            copied.seek(0)
            await connection.copy_to_table("raw", source=copied, format="binary")
            points += rows
        elapsed_s = time.perf_counter() - began
        await connection.execute("DROP TABLE raw")
        return points / elapsed_s
    finally:
        await connection.close()


def _records(batches: Sequence[Sequence[Timed]]) -> Iterator[tuple[object, ...]]:
    """Rows as those of minutes, in the order of _COLUMNS."""
    ids: dict[object, object] = {}
    source = uuid7()
    for at, one in (timed for batch in batches for timed in batch):
        account = ids.setdefault(one.account, uuid7())
        series = ids.setdefault((one.account, one.metric, *one.labels.items()), uuid7())
        yield account, series, at, source, one.value * (one.count or 1), one.count or 0


async def _introduce(place: Installation, batches: Sequence[Sequence[Timed]]) -> None:
    """Send every batch once, so that from now on all series are known."""
    async with _client(place) as client:
        for batch in batches:
            await _send(client, NDJSON, NDJSON.write(batch))


async def _measure(place: Installation, form: Format, written: Sequence[bytes]) -> Measured:
    """Send the bodies again and again until FORMAT_S are over; each time they are new to the server."""
    async with _client(place) as client:
        for body in written[:CONNECTIONS]:
            await _send(client, form, body)
        logged, cpu_s, began = await _logged(place), place.cpu_s(), time.perf_counter()
        source = cycle(written)

        async def send_on() -> int:
            sent = 0
            while time.perf_counter() < began + FORMAT_S:
                await _send(client, form, next(source))
                sent += SIZE
            return sent

        points = sum(await asyncio.gather(*(send_on() for _ in range(CONNECTIONS))))
        found = Measured(points, time.perf_counter() - began, place.cpu_s() - cpu_s)
    if await _logged(place) - logged != points:
        raise click.ClickException(f"{form.name}: {points} points were acknowledged, others are in the log")
    return found


def _client(place: Installation) -> httpx.AsyncClient:
    """It asks no proxy that the environment may name."""
    headers = {"Authorization": f"Bearer {place.key}"}
    limits = httpx.Limits(max_connections=CONNECTIONS)
    return httpx.AsyncClient(base_url=place.url, headers=headers, limits=limits, timeout=60, trust_env=False)


async def _send(client: httpx.AsyncClient, form: Format, body: bytes) -> None:
    headers = {"Idempotency-Key": str(uuid7()), "Content-Type": form.content_type}
    answer = await client.post(form.path, content=body, headers=headers)
    if answer.status_code != 200 or answer.content != form.answer:
        raise click.ClickException(f"{form.name}: answered {answer.status_code}: {answer.text[:300]}")


async def _logged(place: Installation) -> int:
    return int(await place.postgres.ask("SELECT coalesce(sum(points), 0) FROM ingest_log"))


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


if __name__ == "__main__":
    main()

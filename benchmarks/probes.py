"""What is looked at while the system works: how far it is behind, its memory, when a point is readable."""

import asyncio
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from statistics import median
from typing import Any

import asyncpg
import click

from benchmarks.sending import Connection, connected
from benchmarks.system import System

MARKER = "benchmark.marker"
_MEMORY_EVERY_S, _POLL_S = 5.0, 0.02
# Seconds that the oldest batch waits; since the end of the last minute of the fleet that is judged; since the
# end of the oldest five minutes that are not rolled up.
_BEHIND = """
SELECT
  coalesce((SELECT extract(epoch FROM now() - received_at) FROM ingest_log ORDER BY id LIMIT 1), 0)::float8,
  (SELECT extract(epoch FROM now() - min(w.judged_until)) FROM account_watches w
   JOIN accounts a ON a.id = w.account_id WHERE a.external_id LIKE 'fleet-%')::float8,
  coalesce((SELECT extract(epoch FROM now() - min(at) - interval '5 minutes') FROM dirty_windows
            WHERE step = 5), 0)::float8
"""
_FIND = """query ($metric: [String!]) {
  series(filter: {metrics: $metric}, first: 1) { edges { node { id } } } }"""
_READ = """query ($id: ID!, $window: SeriesWindow) {
  node(id: $id) { ... on Series { columns(window: $window) { values } } } }"""


@dataclass
class Behind:
    """Samples of each second, in seconds."""

    log: list[float] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    rolled_up: list[float] = field(default_factory=list)

    async def keep_looking(self, system: System) -> None:
        connection: asyncpg.Connection = await asyncpg.connect(system.postgres.url())
        try:
            while True:
                log, judged, rolled_up = await connection.fetchrow(_BEHIND)
                self.log.append(log)
                self.rolled_up.append(max(rolled_up, 0.0))
                if judged is not None:
                    self.judged.append(judged)
                await asyncio.sleep(1)
        finally:
            await connection.close()


@dataclass
class Memory:
    """Samples of the memory of each kind of process (MiB)."""

    samples: list[Mapping[str, float]] = field(default_factory=list)

    async def keep_looking(self, system: System) -> None:
        while True:
            self.samples.append(await asyncio.to_thread(system.memory_mb))
            await asyncio.sleep(_MEMORY_EVERY_S)

    def told(self) -> dict[str, dict[str, float]]:
        """The medians of the first, the middle and the last tenth."""
        size, few = len(self.samples), max(1, len(self.samples) // 10)
        middle = (size - few) // 2
        parts = {"start": slice(few), "middle": slice(middle, middle + few), "end": slice(size - few, size)}
        return {name: _medians(self.samples[part]) for name, part in parts.items()}


def _medians(samples: Sequence[Mapping[str, float]]) -> dict[str, float]:
    kinds = dict.fromkeys(kind for one in samples for kind in one)
    found = {kind: median(one.get(kind, 0.0) for one in samples) for kind in kinds}
    return {name: round(mb, 1) for name, mb in {**found, "total": sum(found.values())}.items()}


class Marker:
    """One series of one point a second, read back through GraphQL."""

    def __init__(self, account: str) -> None:
        self._account = account
        self.readable_s: list[float] = []

    async def keep_looking(self, system: System) -> None:
        """How long after its acknowledgement each point is read."""
        keys = system.credentials
        async with connected(keys.url, keys.ingest) as sender, connected(keys.url, keys.admin) as reader:
            await self._send(sender, 0, _minute())
            series = await _series(reader)
            value = 1
            while True:
                at = _minute()
                await self._send(sender, value, at)
                acknowledged = time.monotonic()
                await _until_read(reader, series, value, at)
                self.readable_s.append(time.monotonic() - acknowledged)
                value += 1
                await asyncio.sleep(max(0.0, acknowledged + 1 - time.monotonic()))

    async def _send(self, sender: Connection, value: int, at: datetime) -> None:
        point = {"account": self._account, "metric": MARKER, "at": at.isoformat(), "value": value}
        body = json.dumps(point).encode()
        reply = await sender.post("/v1/points", body, content_type="application/x-ndjson")
        while reply.status == 503:
            await asyncio.sleep(float(reply.header("retry-after")))
            reply = await sender.post("/v1/points", body, content_type="application/x-ndjson")
        if reply.status != 200:
            raise click.ClickException(f"The marker was answered {reply.status}: {reply.body[:300]!r}")


async def _series(reader: Connection) -> str:
    while True:
        if edges := (await _ask(reader, _FIND, metric=[MARKER]))["series"]["edges"]:
            return str(edges[0]["node"]["id"])
        await asyncio.sleep(_POLL_S)


async def _until_read(reader: Connection, series: str, value: int, at: datetime) -> None:
    between = {"from": at.isoformat(), "until": (at + timedelta(minutes=1)).isoformat()}
    window = {"range": {"between": between}, "resolution": "MINUTE"}
    while True:
        columns = (await _ask(reader, _READ, id=series, window=window))["node"]["columns"]
        if columns["values"] == [value]:
            return
        await asyncio.sleep(_POLL_S)


async def _ask(reader: Connection, query: str, **variables: Any) -> Any:
    body = json.dumps({"query": query, "variables": variables}).encode()
    reply = await reader.post("/graphql", body, content_type="application/json")
    found = json.loads(reply.body)
    if "errors" in found:
        raise click.ClickException(f"GraphQL answered {found['errors']}")
    return found["data"]


def _minute() -> datetime:
    return datetime.now(UTC).replace(second=0, microsecond=0)

"""A Postgres and one API process of the benchmark's own, in a temporary directory and on loopback only."""

import asyncio
import os
import signal
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from domain.access import service as access
from domain.access.models import PrincipalKind
from domain.access.service import Holder
from domain.core.db import Database
from domain.core.settings import APP, Settings
from ops import migrate, simulate
from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, spawn, stop_all, wait_until
from ops.operator import actor
from ops.simulation import specification
from ops.up import free_port

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Installation:
    """The API at `url`, with the simulated platform's catalogue and a sender's `key`."""

    url: str
    key: str
    postgres: Postgres
    api: Process

    def cpu_s(self) -> float:
        """The CPU time that the API and all of Postgres have used so far; 0 where there is no /proc."""
        server = self.postgres.process
        assert server is not None
        return _cpu_s({self.api.pid, server.pid})


@contextmanager
def installation() -> Iterator[Installation]:
    """Durable as in production; stopped and deleted at the end. The relay and the workers are not there."""
    with tempfile.TemporaryDirectory(prefix="vitals-bench-") as place:
        room = Path(place)
        postgres = Postgres(room, log=room / "postgres.log")
        postgres.start()
        try:
            asyncio.run(postgres.make_database("vitals"))
            settings = Settings(DATABASE_URL=postgres.url(APP), owner_database_url=postgres.url(), data=room)
            migrate.upgrade(settings)
            key = asyncio.run(_sender(settings))
            with _serving(settings, room) as (url, api):
                yield Installation(url, key, postgres, api)
        finally:
            postgres.stop()


async def _sender(settings: Settings) -> str:
    """The key of a sender that may write to every account of the catalogue, which is made here."""
    db, at = Database(settings.database_url, APP, pool_size=1), datetime.now(UTC)
    try:
        async with db.transaction("operator") as session:
            await simulate.apply_catalogue(session, specification.load(), at=at)
            holder = Holder(PrincipalKind.INGEST)
            _, key = await access.create_key(session, name="benchmark", holder=holder, by=actor(), at=at)
            return key
    finally:
        await db.dispose()


@contextmanager
def _serving(settings: Settings, room: Path) -> Iterator[tuple[str, Process]]:
    port, log = free_port(0), room / "api.log"
    env = {**os.environ, "DATABASE_URL": settings.database_url, "VITALS_RATE_LIMIT": "off"}
    api = spawn([sys.executable, "-m", "ops", "serve", "--port", str(port)], log=log, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{url}/readyz"), api, log=log, within_s=30)
        yield url, api
    finally:
        stop_all([api], ((signal.SIGTERM, 10.0),))


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1):
            return True
    except OSError:
        return False


def _cpu_s(roots: set[int]) -> float:
    """User and system time of these processes, of their children, and of those children that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = stat.read_text().split(" ", 1)
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        fields = rest.rpartition(")")[2].split()
        if int(pid) in roots or int(fields[1]) in roots:
            ticks += sum(map(int, fields[11:15] if int(pid) in roots else fields[11:13]))
    return ticks / _TICKS

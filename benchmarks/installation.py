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

from benchmarks import usage
from domain.access import service as access
from domain.access.models import PrincipalKind
from domain.access.service import Holder
from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from ops import migrate, simulate
from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, spawn, stop_all, wait_until
from ops.operator import actor
from ops.simulation import specification
from ops.up import free_port


@dataclass(frozen=True)
class Installation:
    """The API at `url`, with the simulated platform's catalogue and a sender's `key`."""

    url: str
    key: str
    room: Path
    settings: Settings
    postgres: Postgres
    api: Process

    def cpu_s(self) -> float:
        """The CPU time that the API and all of Postgres have used so far; 0 where there is no /proc."""
        server = self.postgres.process
        assert server is not None
        return usage.cpu_s({self.api.pid, server.pid})


@contextmanager
def installation() -> Iterator[Installation]:
    """Durable as in production; stopped and deleted at the end. The relay and the workers are not there."""
    with server() as postgres:
        settings = asyncio.run(database(postgres, "vitals"))
        key = asyncio.run(_sender(settings))
        with _serving(settings) as (url, api):
            yield Installation(url, key, settings.data, settings, postgres, api)


@contextmanager
def server() -> Iterator[Postgres]:
    """A Postgres with the settings of `vitals up`, in a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="vitals-bench-") as place:
        postgres = Postgres(Path(place), log=Path(place) / "postgres.log")
        postgres.start()
        try:
            yield postgres
        finally:
            postgres.stop()


async def database(postgres: Postgres, name: str) -> Settings:
    """A migrated database of that name, and the settings that lead to it."""
    await postgres.make_database(name)
    urls = {role: postgres.url(role, name) for role in ("postgres", APP, WORKER)}
    settings = Settings(
        DATABASE_URL=urls[APP],
        worker_database_url=urls[WORKER],
        owner_database_url=urls["postgres"],
        data=postgres.log.parent,
    )
    await asyncio.to_thread(migrate.upgrade, settings)
    return settings


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
def _serving(settings: Settings) -> Iterator[tuple[str, Process]]:
    port, log = free_port(0), settings.data / "api.log"
    env = {**os.environ, "DATABASE_URL": settings.database_url, "VITALS_RATE_LIMIT": "off"}
    api = spawn([sys.executable, "-m", "ops", "serve", "--port", str(port)], log=log, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: answers(f"{url}/readyz"), api, log=log, within_s=60)
        yield url, api
    finally:
        stop_all([api], ((signal.SIGTERM, 10.0),))


def answers(url: str) -> bool:
    """Whether a GET is answered with success; no proxy is asked that the environment may name."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=1):
            return True
    except OSError:
        return False

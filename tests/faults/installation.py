"""An installation of real processes for fault tests: durable as in production, and each part can be killed.

Its processes are started from the main thread and end with it; nothing else is ever killed.
"""

import asyncio
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import asyncpg

from domain.access.models import PrincipalKind
from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from ops import migrate
from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, spawn, stop_all, wait_until
from ops.embedded.valkey import Valkey
from ops.up import free_port
from tests import make

PATIENCE_S = 120
_STOP = ((signal.SIGTERM, 20.0),)

T = TypeVar("T")


class Part:
    """A process of ours under one command, which is started again after each kill."""

    def __init__(self, *command: str, env: dict[str, str], log: Path) -> None:
        self._command, self._env, self.log = command, env, log
        self.process: Process | None = None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    @property
    def is_running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        argv = [sys.executable, "-m", "ops", *self._command]
        self.process = spawn(argv, log=self.log, env=self._env, death_signal=signal.SIGKILL)

    def kill(self) -> None:
        """kill -9 of it and of its pool."""
        os.killpg(self.pid, signal.SIGKILL)
        assert self.process is not None
        self.process.wait()

    def stop(self) -> None:
        if self.process is not None:
            stop_all([self.process], _STOP)


class Api(Part):
    """One API process at `url`, which is the same after each start."""

    def __init__(self, *, env: dict[str, str], log: Path) -> None:
        self.port = free_port(0)
        self.url = f"http://127.0.0.1:{self.port}"
        super().__init__("serve", "--port", str(self.port), env=env, log=log)

    def wait(self) -> None:
        """Return once it answers."""
        assert self.process is not None
        wait_until(self.is_alive, self.process, log=self.log, within_s=PATIENCE_S)

    def is_alive(self) -> bool:
        return _answers(f"{self.url}/livez")

    def is_ready(self) -> bool:
        return _answers(f"{self.url}/readyz")

    def memory(self) -> int:
        """The bytes that it holds in memory."""
        pages = int(Path(f"/proc/{self.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Installation:
    """One database, two API processes, and what moves the log into minutes."""

    postgres: Postgres
    broker: Valkey
    apis: Sequence[Api]
    relay: Part
    worker: Part

    def run(self, ask: Callable[[Database], Awaitable[T]], role: str = APP) -> T:
        """What is answered over a connection of its own."""

        async def asked() -> T:
            db = Database(self.postgres.url(role), role, pool_size=1)
            try:
                return await ask(db)
            finally:
                await db.dispose()

        return asyncio.run(asked())

    def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """Rows, asked for by a superuser."""

        async def asked() -> list[asyncpg.Record]:
            connection = await asyncpg.connect(self.postgres.url())
            try:
                rows: list[asyncpg.Record] = await connection.fetch(statement, *values)
                return rows
            finally:
                await connection.close()

        return asyncio.run(asked())

    def sender_key(self) -> str:
        """A new key that may write to every account."""
        return self.run(lambda db: make.key(db, kind=PrincipalKind.INGEST))

    def account(self) -> str:
        """The external id of a new account."""
        return self.run(lambda db: make.account(db)).external_id

    def kill_postgres(self) -> None:
        """kill -9 of the server and of every backend, whatever they are at."""
        assert self.postgres.process is not None
        server = self.postgres.process
        os.kill(server.pid, signal.SIGSTOP)  # it starts no other meanwhile
        backends = _children(server.pid)
        server.kill()
        for pid in backends:
            _kill(pid)
        server.wait()
        wait_for(lambda: not any(map(_lives, backends)))

    def start_workers(self) -> None:
        self.broker.start()
        self.relay.start()
        self.worker.start()

    def wipe_broker(self) -> None:
        """kill -9 of the broker, which forgets all that it held."""
        assert self.broker.process is not None
        self.broker.process.kill()
        self.broker.process.wait()
        for file in self.broker.home.glob("appendonlydir/*"):
            file.unlink()

    def wait_until_folded(self) -> None:
        """Return once nothing waits in the log."""
        assert self.relay.is_running
        assert self.worker.is_running
        wait_for(lambda: self.fetch("SELECT count(*) FROM ingest_log")[0][0] == 0)

    def stop(self) -> None:
        for part in (*self.apis, self.relay, self.worker):
            part.stop()
        self.broker.stop()
        self.postgres.stop()


@contextmanager
def installation(
    place: Path, *, apis: int = 2, postgres: Postgres | None = None, **settings: str
) -> Iterator[Installation]:
    """One under `place` with its API processes running; on `postgres`, which runs, or on one of its own."""
    place.mkdir(exist_ok=True)
    if postgres is None:
        postgres = Postgres(place, log=place / "postgres.log")
        postgres.start()
    broker = Valkey(place, log=place / "valkey.log")
    env = _environment(postgres, broker) | settings
    made = Installation(
        postgres,
        broker,
        [Api(env=env, log=place / f"api-{number}.log") for number in range(apis)],
        Part("relay", env=env, log=place / "relay.log"),
        Part("worker", "--queues", "ingest", "--concurrency", "1", env=env, log=place / "worker.log"),
    )
    try:
        asyncio.run(postgres.make_database("vitals"))
        owner = postgres.url()
        migrate.upgrade(Settings(DATABASE_URL=postgres.url(APP), owner_database_url=owner, data=place))
        for api in made.apis:
            api.start()
        for api in made.apis:
            api.wait()
        yield made
    finally:
        made.stop()


def _environment(postgres: Postgres, broker: Valkey) -> dict[str, str]:
    return {
        **os.environ,
        "DATABASE_URL": postgres.url(APP),
        "VITALS_WORKER_DATABASE_URL": postgres.url(WORKER),
        "BROKER_URL": broker.url(),
        "VITALS_RATE_LIMIT": "off",
        "PYTHONUNBUFFERED": "1",
    }


def wait_for(condition: Callable[[], object]) -> None:
    """Return once it holds; it is given up after a time in which a slow machine would have done it."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)


def _answers(url: str) -> bool:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=5):
            return True
    except OSError:
        return False


def _children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:  # it has ended meanwhile
        return


def _lives(pid: int) -> bool:
    """Whether it has neither ended nor waits to be buried."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False

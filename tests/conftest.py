"""Servers and databases for the tests: embedded, or those that TEST_*_URL name.

Each test process migrates one database; after each test that used it the rows are deleted.
"""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import make_url

from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from ops import migrate
from ops.embedded.postgres import Postgres
from ops.embedded.processes import hold
from ops.embedded.valkey import Valkey

_ROOM = 1 << 30
_TABLES = """
    SELECT format('DELETE FROM %I.%I', n.nspname, c.relname)
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND n.nspname NOT LIKE 'pg\\_%'
      AND n.nspname <> 'information_schema' AND c.relname <> 'alembic_version'
"""


class Cluster:
    """A Postgres that the tests own: `admin` is the address of a superuser."""

    def __init__(self, admin: str) -> None:
        self.admin = admin

    def url(self, user: str | None = None, database: str = "postgres") -> str:
        """The address of `database` for one of our roles; without `user`, for the superuser."""
        parsed = make_url(self.admin).set(database=database)
        if user is not None:
            parsed = parsed.set(username=user)
        return parsed.render_as_string(hide_password=False)

    def settings(self, database: str, **others: Any) -> Settings:
        return Settings(
            DATABASE_URL=self.url(APP, database),
            worker_database_url=self.url(WORKER, database),
            owner_database_url=self.url(database=database),
            **others,
        )

    async def execute(self, statement: str, *, database: str = "postgres") -> None:
        connection = await asyncpg.connect(self.url(database=database))
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@pytest.fixture(scope="session")
def room() -> Iterator[Path]:
    """A directory for servers, in memory where there is room; those of killed runs are swept first."""
    memory = Path("/dev/shm")
    roomy = memory.is_dir() and os.access(memory, os.W_OK)
    roomy = roomy and shutil.disk_usage(memory).free > _ROOM
    parent = memory if roomy else Path(tempfile.gettempdir())
    _sweep(parent)
    # Locked before it has its name, so that no other process takes it for a dead run's.
    new = Path(tempfile.mkdtemp(prefix="vitals-new-", dir=parent))
    lock = hold(new / "lock")
    place = new.rename(new.with_name(new.name.replace("vitals-new-", "vitals-test-")))
    yield place
    shutil.rmtree(place, ignore_errors=True)
    os.close(lock)


def _sweep(parent: Path) -> None:
    for place in parent.glob("vitals-test-*"):
        if place.stat().st_uid != os.getuid():
            continue
        lock = hold(place / "lock")
        if lock is not None:
            shutil.rmtree(place, ignore_errors=True)
            os.close(lock)


@pytest.fixture(scope="session")
def cluster(room: Path) -> Iterator[Cluster]:
    if given := os.environ.get("TEST_DATABASE_URL"):
        yield Cluster(given)
        return
    server = Postgres(room, log=room / "postgres.log", fast=True)
    server.start()
    yield Cluster(server.url(database="postgres"))
    server.stop()


@pytest.fixture(scope="session")
def database(cluster: Cluster) -> Iterator[str]:
    """The name of this process's database: bootstrapped and migrated once."""
    name = f"vitals_test_{os.getpid()}"
    asyncio.run(cluster.execute(f"CREATE DATABASE {name}"))
    migrate.upgrade(cluster.settings(name))
    yield name
    asyncio.run(cluster.execute(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
async def new_database(cluster: Cluster) -> AsyncIterator[Callable[[], Awaitable[str]]]:
    """Call it for the name of an empty database, dropped after the test."""
    names: list[str] = []

    async def create() -> str:
        name = f"vitals_new_{os.getpid()}_{len(names)}"
        await cluster.execute(f"CREATE DATABASE {name}")
        names.append(name)
        return name

    yield create
    for name in names:
        await cluster.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="session")
async def cleaner(cluster: Cluster, database: str) -> AsyncIterator[asyncpg.Connection]:
    """A superuser whom triggers and foreign keys do not hinder: it may delete in any order."""
    connection = await asyncpg.connect(
        cluster.url(database=database),
        server_settings={"session_replication_role": "replica", "lock_timeout": "10s"},
    )
    yield connection
    await connection.close()


@pytest.fixture
async def clean(cleaner: asyncpg.Connection) -> AsyncIterator[None]:
    """Deletes all rows after the test."""
    yield
    statements = [row[0] for row in await cleaner.fetch(_TABLES)]
    await cleaner.execute(";".join(statements))


@pytest.fixture
async def db(cluster: Cluster, database: str, clean: None) -> AsyncIterator[Database]:
    """The database as the API has it."""
    opened = Database(cluster.url(APP, database), APP)
    yield opened
    await opened.dispose()


@pytest.fixture
async def worker_db(cluster: Cluster, database: str, clean: None) -> AsyncIterator[Database]:
    """The same database as the workers have it: they see every tenant's rows."""
    opened = Database(cluster.url(WORKER, database), WORKER)
    yield opened
    await opened.dispose()


@pytest.fixture(scope="session")
def broker(room: Path) -> Iterator[str]:
    """The address of a broker."""
    if given := os.environ.get("TEST_BROKER_URL"):
        yield given
        return
    server = Valkey(room, log=room / "valkey.log")
    server.start()
    yield server.url()
    server.stop()


@pytest.fixture
def settings(cluster: Cluster, database: str, broker: str, tmp_path: Path, clean: None) -> Settings:
    """What the processes of this database would read from their environment."""
    return cluster.settings(database, BROKER_URL=broker, data=tmp_path)

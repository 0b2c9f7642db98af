"""Migrations go up, down and up again on a populated database, and leave no drift from the models."""

import asyncio
import os
import re
import subprocess
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import alembic
import asyncpg
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Connection

from domain import tables
from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from ops import migrate
from ops.embedded.postgres import package
from tests import make
from tests.conftest import Cluster

DAY = datetime(2026, 11, 23, tzinfo=UTC)


def dump(cluster: Cluster, database: str) -> str:
    """The schema as pg_dump tells it, without the key that is made anew each time."""
    command = [package() / "pginstall" / "bin" / "pg_dump", "--schema-only", cluster.url(database=database)]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    # Some builds of Postgres number the columns anew each time that they are made.
    found = re.sub(r"pg_attver=\d+", "", found)
    return "\n".join(line for line in found.splitlines() if "restrict" not in line)


async def populate(settings: Settings) -> None:
    db, worker = Database(settings.database_url, APP), Database(settings.worker_database_url, WORKER)
    account = await make.account(db)
    partner = await make.partner(db)
    await make.dependency(db, account, partner)
    await make.incident(worker, partners=[partner], accounts=[account])
    await make.insight(worker, account)
    series = await make.series(worker, account, outcome="approved")
    await make.minute_by_minute(worker, series, *range(10), from_=DAY)
    await db.dispose()
    await worker.dispose()


async def test_every_migration_goes_up_down_and_up_again_on_a_populated_database(
    cluster: Cluster, new_database: Callable[[], Awaitable[str]]
) -> None:
    name = await new_database()
    settings = cluster.settings(name)
    await asyncio.to_thread(migrate.upgrade, settings)
    before = dump(cluster, name)
    for revision in migrate.revisions():
        await populate(settings)
        below = revision.down_revision
        await asyncio.to_thread(migrate.downgrade, settings, str(below or "base"))
        await asyncio.to_thread(migrate.upgrade, settings)
        await cluster.execute("DROP TABLE IF EXISTS minutes_20261123", database=name)
        assert dump(cluster, name) == before


async def test_the_models_and_the_migrated_database_do_not_differ(worker_db: Database) -> None:
    def compare(connection: Connection) -> list[object]:
        options = {"include_name": lambda name, kind, _: not str(name).startswith("minutes_")}
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, tables.metadata))

    async with worker_db.engine.connect() as connection:
        assert await connection.run_sync(compare) == []


def test_alembic_is_the_installed_package_not_our_folder() -> None:
    assert "site-packages" in str(alembic.__file__)
    assert not os.path.exists("alembic/__init__.py")


async def roles(url: str) -> list[tuple[str, bool]]:
    """Our roles, and which of them row security does not bind."""
    connection = await asyncpg.connect(url)
    rows = await connection.fetch(
        "SELECT rolname, rolbypassrls FROM pg_roles WHERE rolname LIKE 'vitals\\_%' ORDER BY 1"
    )
    await connection.close()
    return [tuple(row) for row in rows]


async def test_bootstrapping_again_and_in_parallel_changes_nothing(
    cluster: Cluster, new_database: Callable[[], Awaitable[str]]
) -> None:
    url = cluster.url(database=await new_database())
    await asyncio.gather(*(asyncio.to_thread(migrate.bootstrap, url) for _ in range(4)))
    first = await roles(url)
    await asyncio.to_thread(migrate.bootstrap, url)
    assert await roles(url) == first
    assert set(first) == {
        ("vitals_app", False),
        ("vitals_backup", True),
        ("vitals_owner", False),
        ("vitals_worker", False),
    }

"""The doctor says what is wrong and what to do, and nothing else makes it end with an error."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from domain.core import events
from domain.core.db import Database
from domain.core.settings import APP, Settings
from ops import doctor
from ops.cli import main
from tests import make
from tests.conftest import Cluster


def environment(settings: Settings) -> dict[str, str]:
    return {
        "DATABASE_URL": settings.database_url,
        "VITALS_WORKER_DATABASE_URL": settings.worker_database_url,
        "VITALS_OWNER_DATABASE_URL": settings.owner_database_url,
        "BROKER_URL": settings.broker_url,
        "VITALS_DATA": str(settings.data),
    }


def test_a_sound_installation_has_only_good_lines(settings: Settings) -> None:
    told = CliRunner().invoke(main, ["doctor"], env=environment(settings))
    assert told.exit_code == 0, told.output
    assert [line[:18].split() for line in told.output.splitlines()] == [
        ["ok", "python"],
        ["ok", "postgres"],
        ["ok", "valkey"],
        ["ok", "sockets"],
        ["ok", "vitals_app"],
        ["ok", "vitals_worker"],
        ["ok", "schema"],
        ["ok", "work"],
        ["ok", "broker"],
    ]


def test_a_broken_installation_says_what_to_do_and_ends_with_an_error(
    settings: Settings, tmp_path: Path
) -> None:
    env = environment(settings) | {"BROKER_URL": f"redis+socket://{tmp_path}/none.sock"}
    told = CliRunner().invoke(main, ["doctor"], env=env)
    assert told.exit_code == 1
    assert told.output.splitlines()[-2:] == [
        f"    -> {doctor._NO_BROKER}",
        "Error: 1 of these need attention",
    ]


async def test_what_the_workers_set_aside_is_counted(settings: Settings, worker_db: Database) -> None:
    account = await make.account(worker_db)
    async with worker_db.transaction() as session:
        await events.record(session, "test.happened", account.id, at=make.NOON)
        await session.execute(text("UPDATE events SET id = '019ab000-0000-7000-8000-000000000000'"))
    finding = await asyncio.to_thread(doctor.work, settings)
    assert finding.detail == "1 events unsent for over a minute (is the relay running?)"
    assert finding.advice


def test_a_login_above_row_security_is_found(cluster: Cluster, database: str) -> None:
    finding = doctor.role(APP, cluster.url(database=database))
    assert finding.advice == "log in as vitals_app"


def test_an_unreachable_database_is_found(tmp_path: Path) -> None:
    finding = doctor.role(APP, f"postgresql://vitals_app@/vitals?host={tmp_path}")
    assert finding.advice == doctor._NO_DATABASE


async def test_an_unmigrated_database_is_found(
    cluster: Cluster, database: str, new_database: Callable[[], Awaitable[str]]
) -> None:
    settings = cluster.settings(await new_database())
    finding = await asyncio.to_thread(doctor.schema, settings)
    assert finding.advice == "run `vitals migrate up`"


@pytest.mark.parametrize(("version", "advice"), [((3, 11, 0), ""), ((3, 10, 9), "use Python 3.11 or newer")])
def test_an_old_python_is_found(version: tuple[int, ...], advice: str) -> None:
    assert doctor.python(version).advice == advice

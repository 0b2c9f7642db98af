"""The command line: every command is there, and asking for help is quick."""

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ops import addresses
from ops.cli import main


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_every_command_tells_its_use(name: str) -> None:
    told = CliRunner().invoke(main, [name, "--help"])
    assert told.exit_code == 0, told.output
    assert told.output.startswith(f"Usage: main {name} ")


def test_help_imports_no_command() -> None:
    code = (
        "import sys; from ops.cli import main; main(['--help'], standalone_mode=False); print(*sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.splitlines()[-1].split())
    assert loaded.isdisjoint({"sqlalchemy", "pydantic", "asyncpg", "celery", "numpy", "ops.up"})


def test_an_unknown_command_is_refused() -> None:
    told = CliRunner().invoke(main, ["heal"])
    assert told.exit_code == 2
    assert "No such command 'heal'" in told.output


@pytest.fixture
def no_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DATABASE_URL", "BROKER_URL", "VITALS_WORKER_DATABASE_URL"):
        monkeypatch.setenv(name, "")


def test_commands_find_the_servers_of_a_running_stack(tmp_path: Path, no_addresses: None) -> None:
    kept = {
        "DATABASE_URL": "postgresql://app@/vitals",
        "VITALS_WORKER_DATABASE_URL": "postgresql://worker@/vitals",
        "BROKER_URL": "redis+socket:///valkey.sock",
    }
    addresses.write(tmp_path, kept)
    addresses.adopt(tmp_path)
    assert {name: os.environ[name] for name in kept} == kept


def test_a_database_that_the_environment_names_is_kept(
    tmp_path: Path, no_addresses: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://mine@/vitals")
    kept = {"DATABASE_URL": "a", "VITALS_WORKER_DATABASE_URL": "b", "BROKER_URL": "c"}
    addresses.write(tmp_path, kept)
    addresses.adopt(tmp_path)
    assert {name: os.environ[name] for name in kept} == {
        "DATABASE_URL": "postgresql://mine@/vitals",
        "VITALS_WORKER_DATABASE_URL": "",
        "BROKER_URL": "c",
    }

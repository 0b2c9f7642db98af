"""The whole system as `vitals up` runs it, in a temporary directory: servers, API, workers, beat and relay.

Its demonstration is loaded and goes on, as in any fresh installation.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import click

from benchmarks import usage
from ops import credentials
from ops.credentials import Credentials
from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, spawn, stop_all, wait_until
from ops.up import free_port

_READY_S = 300.0
_NAMED = ("DATABASE_URL", "BROKER_URL")


@dataclass(frozen=True)
class System:
    """What runs below the process `up`, and the keys to it."""

    up: Process
    room: Path
    postgres: Postgres
    credentials: Credentials

    def vitals(self, *arguments: str) -> None:
        """Run a command of `vitals` on it; what it prints is shown where it fails."""
        ran = subprocess.run(_command(arguments), env=_env(self.room), capture_output=True, text=True)
        if ran.returncode != 0:
            raise click.ClickException(f"vitals {' '.join(arguments)}: {ran.stdout}{ran.stderr}")

    def cpu_s(self) -> dict[str, float]:
        """The CPU time so far by kind of process; see `usage.cpu_s_by_kind`."""
        return dict(usage.cpu_s_by_kind(self.up.pid))

    def memory_mb(self) -> dict[str, float]:
        """By kind of process; see `usage.memory_mb`."""
        return dict(usage.memory_mb(self.up.pid))


@contextmanager
def system() -> Iterator[System]:
    """Ready, with its demonstration loaded; stopped and deleted at the end."""
    with tempfile.TemporaryDirectory(prefix="vitals-bench-") as place:
        room, log = Path(place), Path(place) / "up.log"
        up = spawn(_command(["up", "--port", str(free_port(0))]), log=log, env=_env(room))
        try:
            wait_until(lambda: "\nready in " in log.read_text(), up, log=log, within_s=_READY_S)
            keys = credentials.load(room)
            assert keys is not None
            yield System(up, room, Postgres(room, log=room / "log" / "postgres.log"), keys)
        finally:
            stop_all([up], ((signal.SIGTERM, 90.0),))


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "ops", *arguments]


def _env(room: Path) -> dict[str, str]:
    """Ours, without servers that it may name."""
    plain = {name: value for name, value in os.environ.items() if name not in _NAMED}
    return {**plain, "VITALS_DATA": str(room), "VITALS_RATE_LIMIT": "off", "NO_PROXY": "*"}

"""What one `vitals up` runs: servers, then migrations, then processes, then the demonstration.

One stack a data directory: a lock says so, and a second lock, inherited by every child, says
when the last process of a killed stack has ended.
"""

import asyncio
import os
import signal
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import click

from ops import addresses, secret_keys
from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, ServerFailed, hold, spawn, stop_all
from ops.embedded.valkey import Valkey
from ops.supervisor import Child, Supervisor

_LOG_KEPT = 20_000_000  # bytes; a longer log is set aside as the next run begins
_SERVERS = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0))
_PROCESSES = ((signal.SIGTERM, 15.0), (signal.SIGQUIT, 5.0))
_SIMULATION = "simulation.json"  # what `prepare` leaves where there is a demonstration
_COMMANDS = {
    "api": ("serve",),
    "worker-ingest": ("worker", "--queues", "ingest", "--concurrency", "1"),
    "worker-live": ("worker", "--queues", "live", "--concurrency", "2"),
    "worker-slow": ("worker", "--queues", "slow", "--concurrency", "1"),
    "beat": ("beat",),
    "relay": ("relay",),
}


class Stack:
    """Everything of one data directory; `run` returns when it was told to stop."""

    def __init__(self, data: Path) -> None:
        self.data, self.logs = data, data / "log"
        self.data.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.logs.mkdir(mode=0o700, exist_ok=True)
        self.keep = _lock(data)
        self.supervisor = Supervisor(click.echo)
        self.env = {name: value for name, value in os.environ.items() if value}
        self.env |= {"VITALS_DATA": str(data), "PYTHONUNBUFFERED": "1"}
        self.env.setdefault(secret_keys.NAME, secret_keys.ensure(data))

    def run(self, *, port: int, demo: bool) -> None:
        """Start in order, say `ready`, keep all running; stop in order, whatever happens."""
        began = time.monotonic()
        self.env["PORT"], url = str(port), f"http://127.0.0.1:{port}"
        self.supervisor.obey_signals()
        try:
            if self._start(url, demo=demo):
                self._say_ready(url, after_s=time.monotonic() - began)
                self.supervisor.run()
        finally:
            click.echo("stopping")
            self.supervisor.stop()
        click.echo("stopped")

    def _start(self, url: str, *, demo: bool) -> bool:
        """False when it was told to stop on the way."""
        postgres = self._start_servers()
        if postgres is not None:
            asyncio.run(postgres.make_database("vitals"))
        if self.supervisor.stopping or not self._migrate(postgres):
            return False
        if postgres is not None:
            demo = demo or asyncio.run(postgres.ask("SELECT NOT EXISTS (SELECT FROM accounts)"))
        click.echo("starting " + ", ".join(_COMMANDS))
        self.supervisor.start(*map(self._process, _COMMANDS), steps=_PROCESSES)
        if not self.supervisor.run(until=lambda: _answers(f"{url}/readyz")):
            return False
        prepared = self._once("prepare", f"{url}/graphql", *(["--demo"] if demo else []))
        if prepared and (self.data / _SIMULATION).is_file():
            self.supervisor.start(self._simulation(), steps=_PROCESSES)
        return prepared

    def _start_servers(self) -> Postgres | None:
        """Start the servers that the environment does not name; returns the Postgres among them."""
        servers: list[Postgres | Valkey] = []
        embedded: dict[str, str] = {}
        postgres = None
        if "DATABASE_URL" not in self.env:
            postgres = Postgres(self.data, log=self._log("postgres"), keep=self.keep)
            embedded["DATABASE_URL"] = postgres.url("vitals_app")
            embedded["VITALS_WORKER_DATABASE_URL"] = postgres.url("vitals_worker")
            embedded["VITALS_OWNER_DATABASE_URL"] = postgres.url("vitals_owner")
            servers.append(postgres)
        if "BROKER_URL" not in self.env:
            valkey = Valkey(self.data, log=self._log("valkey"), keep=self.keep)
            embedded["BROKER_URL"] = valkey.url()
            servers.append(valkey)
        addresses.write(self.data, embedded)
        self.env |= embedded
        for server in servers:
            click.echo(f"starting {server.log.stem} in {server.home}")
        children = (Child(server.log.stem, server.spawn, server.log) for server in servers)
        self.supervisor.start(*children, steps=_SERVERS)
        self.supervisor.run(until=lambda: all(server.is_ready() for server in servers))
        return postgres

    def _migrate(self, postgres: Postgres | None) -> bool:
        click.echo("migrating")
        login = {} if postgres is None else {"VITALS_OWNER_DATABASE_URL": postgres.url()}
        return self._once("migrate", "up", env=login)

    def _process(self, name: str) -> Child:
        log = self._log(name)
        # On SIGTERM a worker finishes its tasks, on SIGQUIT it waits for the broker: if we are killed,
        # that one is gone. Its pool ends with it.
        last = signal.SIGKILL if name.startswith("worker") else signal.SIGTERM
        command = _COMMANDS[name]
        return Child(name, lambda: self._spawn(*command, log=log, death_signal=last), log)

    def _simulation(self) -> Child:
        """A demonstration moves; all else goes on without it."""
        log, state = self._log("simulation"), str(self.data / _SIMULATION)
        command = ("simulate", "--live", "--no-catalog", "--state", state)
        return Child("simulation", lambda: self._spawn(*command, log=log), log, is_vital=False)

    def _once(self, *command: str, env: Mapping[str, str] = MappingProxyType({})) -> bool:
        """Run a command to its end; False when told to stop meanwhile, ServerFailed when it fails."""
        process = self._spawn(*command, log=None, env=env)
        try:
            ended = self.supervisor.run(until=lambda: process.poll() is not None)
        finally:
            stop_all([process], ((signal.SIGTERM, 5.0),))
        if ended and process.returncode != 0:
            raise ServerFailed(f"`vitals {' '.join(command)}` ended with {process.returncode}")
        return ended

    def _spawn(
        self,
        *command: str,
        log: Path | None,
        death_signal: signal.Signals = signal.SIGTERM,
        env: Mapping[str, str] = MappingProxyType({}),
    ) -> Process:
        argv = [sys.executable, "-m", "ops", *command]
        env = {**self.env, **env}
        return spawn(argv, log=log, env=env, death_signal=death_signal, keep=self.keep)

    def _log(self, name: str) -> Path:
        log = self.logs / f"{name}.log"
        if log.exists() and log.stat().st_size > _LOG_KEPT:
            log.replace(log.with_suffix(".log.1"))
        return log

    def _say_ready(self, url: str, *, after_s: float) -> None:
        click.echo(
            f"ready in {after_s:.1f} s\n"
            f"  GraphQL      {url}/graphql\n"
            f"  credentials  {self.data / 'credentials.json'}\n"
            f"  logs         {self.logs}\n"
            "Ctrl-C stops it all."
        )


def _lock(data: Path) -> int:
    """The lock that children inherit, once the processes of a killed stack have ended.

    Neither descriptor is closed: both locks last as long as their processes.
    """
    if hold(data / "lock") is None:
        raise ServerFailed(f"already running with {data}: stop that one, or set VITALS_DATA")
    keep = hold(data / "children", within_s=30.0)
    if keep is None:
        raise ServerFailed(f"processes of an earlier run still use {data}: end them first")
    return keep


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1):
            return True
    except OSError:
        return False

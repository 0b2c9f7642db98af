"""A fit ends with its limits or with its worker, and leaves no process and no file behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import text

from domain.core.db import Database
from domain.core.errors import DomainError
from domain.forecasts import fitting, prophet_model
from domain.forecasts.bands import History
from workers import fits
from workers.fits import FitFailed, FitRefused

_HANGS = """
import asyncio, sys
from pathlib import Path
from tests.workers.test_fits import hang
from workers import fits
asyncio.run(fits.run(lambda: hang(Path(sys.argv[1]))))
"""


def hang(told: Path) -> fits.Json:
    """As Stan may: a process of its own that never ends. Tells where its files are, and who there is."""
    grandchild = subprocess.Popen(["sleep", "600"])
    (Path(tempfile.gettempdir()) / "file").touch()
    line = f"{os.getpid()} {os.getpgid(0)} {grandchild.pid} {tempfile.gettempdir()}"
    told.with_suffix(".part").write_text(line)
    told.with_suffix(".part").rename(told)
    grandchild.wait()
    return {}


def wait_for(condition: Callable[[], bool], within_s: float = 30) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """A zombie is not: whoever waits for it may be slow."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z")


def left(told: Path) -> list[object]:
    """What is still there of a fit that hung."""
    *pids, place = told.read_text().split(" ", 3)
    return [pid for pid in pids if is_alive(int(pid))] + [place] * Path(place).exists()


async def test_a_result_comes_back_from_a_process_of_its_own_group() -> None:
    place = Path(tempfile.gettempdir())
    result = await fits.run(
        lambda: {"pid": os.getpid(), "group": os.getpgid(0), "place": tempfile.gettempdir(), "x": [1.5, None]}
    )
    assert result["pid"] == result["group"] != os.getpid()
    assert result["x"] == [1.5, None]
    assert Path(result["place"]).parent == place
    assert Path(result["place"]).name not in os.listdir(place)
    assert not is_alive(result["pid"])


async def test_a_long_result_fits_through_the_pipe() -> None:
    assert len((await fits.run(lambda: {"x": [0.1] * 200_000}))["x"]) == 200_000


async def test_a_fit_over_its_time_ends_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(FitFailed, match=r"^The fit took longer than 1\.5 s\.$"):
        await fits.run(lambda: hang(tmp_path / "told"), within_s=1.5)
    wait_for(lambda: left(tmp_path / "told") == [])


async def test_a_fit_over_its_memory_fails() -> None:
    with pytest.raises(FitFailed, match=r"^The fit failed: MemoryError\.$"):
        await fits.run(lambda: {"x": len(bytearray(8 << 30))})


async def test_a_fit_that_crashes_is_told_from_one_that_refuses() -> None:
    def crash() -> fits.Json:
        os.kill(os.getpid(), signal.SIGSEGV)
        return {}

    def refuse() -> fits.Json:
        raise DomainError("There is nothing to fit.")

    with pytest.raises(FitFailed, match=r"^The fit ended without a result\.$"):
        await fits.run(crash)
    with pytest.raises(FitRefused, match=r"^There is nothing to fit\.$"):
        await fits.run(refuse)


def test_a_killed_worker_leaves_nothing_of_its_fit_behind(tmp_path: Path) -> None:
    told = tmp_path / "told"
    worker = subprocess.Popen([sys.executable, "-c", _HANGS, told])
    wait_for(told.exists)
    assert len(left(told)) == 4
    worker.kill()
    worker.wait()
    wait_for(lambda: left(told) == [])


async def test_a_fit_does_not_disturb_the_connections_of_its_worker(worker_db: Database) -> None:
    async with worker_db.read() as session:
        before = await session.scalar(text("SELECT pg_backend_pid()"))
        await fits.run(lambda: {"descriptors": sorted(os.listdir("/dev/fd"))})
        assert await session.scalar(text("SELECT pg_backend_pid()")) == before


async def test_prophet_fits_within_the_limits_and_leaves_no_file() -> None:
    prophet_model.load()
    at = 3600 * np.arange(20 * 24, dtype=np.int64)
    total = np.random.default_rng(1).poisson(50 + 30 * np.sin(2 * np.pi * at / 86_400)).astype(np.float64)
    history = History(at, total, None, "UTC", "BR")

    def compute() -> fits.Json:
        prophet_model.keep_files_in_temporary_place()
        found = fitting.fit(history, trained_until=int(at[-1]) + 3600, horizon_hours=24)
        return {"model": found.model, "yhat": found.yhat, "files": os.listdir(tempfile.gettempdir())}

    before = set(os.listdir(tempfile.gettempdir()))
    result = await fits.run(compute)
    assert result["model"] == "prophet"
    assert len(result["yhat"]) == 24
    assert result["files"]
    assert not {name for name in os.listdir(tempfile.gettempdir()) if "prophet" in name} - before

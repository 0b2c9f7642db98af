"""Children are kept running, and given up when they can not be."""

import signal
import sys
from pathlib import Path

import pytest

from ops import supervisor
from ops.embedded.processes import Process, spawn
from ops.supervisor import Child, GaveUp, Supervisor

_STEPS = ((signal.SIGTERM, 30.0),)


def child(name: str, log: Path, code: str) -> Child:
    """A child that runs Python code."""

    def start() -> Process:
        return spawn([sys.executable, "-c", code], log=log)

    return Child(name, start, log)


def ended(watched: Child) -> bool:
    return watched.process is not None and watched.process.poll() is not None


@pytest.fixture(autouse=True)
def no_delays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "DELAYS_S", (0.0,) * 4)


def test_a_child_that_ends_is_started_again_and_said(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Supervisor(said.append)
    sleeper = child("sleeper", tmp_path / "sleeper.log", "import time; time.sleep(600)")
    kept.start(sleeper, steps=_STEPS)
    try:
        first = sleeper.process
        assert first is not None
        first.kill()
        assert kept.run(until=lambda: sleeper.process not in (None, first))
    finally:
        kept.stop()
    assert said == [f"sleeper ended with -9; it starts again in 0 s (see {sleeper.log})"]
    assert ended(sleeper)


def test_five_quick_deaths_in_a_row_are_given_up(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Supervisor(said.append)
    broken = child("broken", tmp_path / "broken.log", "raise SystemExit(3)")
    kept.start(broken, steps=_STEPS)
    with pytest.raises(GaveUp, match="broken ended 5 times in a row, the last time with 3"):
        kept.run()
    assert len(said) == 4
    kept.stop()


def test_a_child_that_is_not_vital_is_left_dead_after_five(tmp_path: Path) -> None:
    said: list[str] = []
    kept = Supervisor(said.append)
    broken = child("broken", tmp_path / "broken.log", "raise SystemExit(3)")
    broken.is_vital = False
    kept.start(broken, steps=_STEPS)
    assert kept.run(until=lambda: len(said) == 5)
    kept.look()
    assert broken.process is None
    assert said[-1] == (
        f"broken ended 5 times in a row, the last time with 3; it is not started again (see {broken.log})"
    )
    kept.stop()


def test_a_child_that_lived_long_is_not_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor, "QUICK_S", 0.0)
    said: list[str] = []
    kept = Supervisor(said.append)
    brief = child("brief", tmp_path / "brief.log", "raise SystemExit(0)")
    kept.start(brief, steps=_STEPS)
    assert kept.run(until=lambda: len(said) > 6)
    kept.stop()


def test_the_last_tier_is_stopped_first(tmp_path: Path) -> None:
    order = tmp_path / "order"
    code = (
        "import signal, sys, pathlib\n"
        "def end(*_):\n"
        "    with open({order!r}, 'a') as f: f.write({name!r} + ' ')\n"
        "    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "pathlib.Path({ready!r}).touch()\n"
        "while True: signal.pause()\n"
    )
    kept = Supervisor(lambda _: None)
    names = ("server", "process")
    for name in names:
        text = code.format(order=str(order), name=name, ready=str(tmp_path / name))
        kept.start(child(name, tmp_path / f"{name}.log", text), steps=_STEPS)
    assert kept.run(until=lambda: all((tmp_path / name).exists() for name in names))
    kept.stop()
    assert order.read_text() == "process server "


def test_a_first_signal_stops_and_a_second_one_hurries(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    code = (
        "import signal, pathlib\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(ready)!r}).touch()\n"
        "while True: signal.pause()\n"
    )
    kept = Supervisor(lambda _: None)
    stubborn = child("stubborn", tmp_path / "stubborn.log", code)
    kept.start(stubborn, steps=((signal.SIGTERM, 600.0),))
    assert kept.run(until=ready.exists)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        kept.obey_signals()
        signal.raise_signal(signal.SIGTERM)
        assert not kept.run()
        signal.raise_signal(signal.SIGINT)
        kept.stop()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert stubborn.process is not None
    assert stubborn.process.returncode == -signal.SIGKILL

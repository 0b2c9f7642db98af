"""Processes that end with us, however we end.

Linux: each child gets a signal when the thread that started it ends, so start them from the main
thread. Elsewhere a child can outlive a killed parent; the lock it inherited then says so.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ops.embedded.root import RootMode, change_user

_PR_SET_PDEATHSIG = 1
LINUX = sys.platform.startswith("linux")

Process = subprocess.Popen[bytes]
Steps = Sequence[tuple[signal.Signals, float]]


class ServerFailed(Exception):
    """A server did not start; the message names its log."""


def hold(path: Path, *, within_s: float = 0.0) -> int | None:
    """An exclusive lock on the file `path`, or None while another holds it.

    The descriptor returned may be handed to children: the lock lasts until the last of them ends.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + within_s
    while not _locked(descriptor):
        if time.monotonic() >= deadline:
            os.close(descriptor)
            return None
        time.sleep(0.05)
    return descriptor


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def before_exec(mode: RootMode, death_signal: signal.Signals | None) -> Callable[[], None]:
    """What a child does between fork and exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    parent = os.getpid()

    def run() -> None:
        os.setsid()  # a terminal's Ctrl-C goes to the supervisor alone
        change_user(mode)
        if LINUX and death_signal is not None:
            # After any change of user, which clears it; and the parent may be dead already.
            libc.prctl(_PR_SET_PDEATHSIG, int(death_signal))
            if os.getppid() != parent:
                os._exit(1)

    return run


def spawn(
    argv: Sequence[str | Path],
    *,
    log: Path | None,
    env: Mapping[str, str] | None = None,
    mode: RootMode = "plain",
    death_signal: signal.Signals = signal.SIGTERM,
    keep: int | None = None,
) -> Process:
    """Start a child that writes to the file `log` (None: to our output) and inherits the lock `keep`."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
    try:
        return subprocess.Popen(
            [str(part) for part in argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            env=env,
            pass_fds=() if keep is None else (keep,),
            preexec_fn=before_exec(mode, death_signal),
        )
    finally:
        if output is not None:
            os.close(output)


def wait_until(ready: Callable[[], bool], process: Process, *, log: Path, within_s: float) -> None:
    """Return once `ready()`; raise ServerFailed when the process ends first or the time is over."""
    deadline = time.monotonic() + within_s
    while not ready():
        if process.poll() is not None:
            raise ServerFailed(f"{log.stem} ended with {process.returncode}: see {log}")
        if time.monotonic() > deadline:
            raise ServerFailed(f"{log.stem} is not ready after {within_s:g} s: see {log}")
        time.sleep(0.02)


def stop_all(
    processes: Sequence[Process], steps: Steps, *, hurry: Callable[[], bool] = lambda: False
) -> None:
    """Send all of them each signal in turn and wait as long as its step says, or until `hurry()`.

    Whatever is left of their process groups is killed.
    """
    for number, patience_s in steps:
        deadline = time.monotonic() + patience_s
        for process in processes:
            if process.poll() is None:
                process.send_signal(number)
        while any(process.poll() is None for process in processes):
            if time.monotonic() > deadline or hurry():
                break
            time.sleep(0.02)
    for process in processes:
        _kill_group(process)
        process.wait()


def _kill_group(process: Process) -> None:
    """Each child leads a group of its own; a pool's processes may have outlived it."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS: a group of zombies gives EPERM
        return

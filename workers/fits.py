"""Computes in a forked process of its own group, which ends with its limits or with us.

Pool processes are daemonic and may start none by multiprocessing, hence the bare fork. Stan runs as a
grandchild: whoever ends the fit ends its group. The child inherits Prophet, and touches nothing else of
ours: it closes our descriptors and leaves by `os._exit`.
"""

import asyncio
import gc
import json
import logging
import os
import resource
import shutil
import signal
import tempfile
from collections.abc import Callable
from typing import Any, NoReturn

from domain.core.errors import DomainError
from workers.lifeline import end_with_parent

LIMIT_S = 30.0
MEMORY = 4 << 30
"""Bytes of address space of the child, and of Stan."""

log = logging.getLogger(__name__)
Json = dict[str, Any]


class FitFailed(Exception):
    """The computation did not come to an end; the text is a sentence for people."""


class FitRefused(FitFailed):
    """It said why it will not come to one, however often it is tried."""


async def run(compute: Callable[[], Json], *, within_s: float = LIMIT_S, memory: int = MEMORY) -> Json:
    """What `compute` returns in a child; raises FitFailed or FitRefused. Nothing of it is left afterwards."""
    place = tempfile.mkdtemp(prefix="vitals-fit-")
    read, write = os.pipe()
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        _work(compute, write, place=place, parent=parent, within_s=within_s, memory=memory)
    os.close(write)
    try:
        async with asyncio.timeout(within_s):
            reply = await _read(read)
    except TimeoutError:
        raise FitFailed(f"The fit took longer than {within_s:g} s.") from None
    finally:
        _end(child, place)
    return _result(reply)


async def _read(descriptor: int) -> bytes:
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb")
    )
    try:
        return await reader.read()
    finally:
        transport.close()


def _end(child: int, place: str) -> None:
    """The child is not yet waited for, so the number of its group is still its own."""
    _kill_group(child)
    os.waitpid(child, 0)
    shutil.rmtree(place, ignore_errors=True)


def _kill_group(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:  # it has not yet come to make its group
        os.kill(leader, signal.SIGKILL)
    except PermissionError:  # macOS: a group of zombies
        return


def _result(reply: bytes) -> Json:
    if not reply:
        raise FitFailed("The fit ended without a result.")
    kind, value = json.loads(reply)
    if kind == "refused":
        raise FitRefused(value)
    if kind == "failed":
        raise FitFailed(value)
    result: Json = value
    return result


def _work(
    compute: Callable[[], Json], write: int, *, place: str, parent: int, within_s: float, memory: int
) -> NoReturn:
    """The life of the child."""
    try:
        os.setpgid(0, 0)
        gc.freeze()  # what is collected here must not close descriptors that were the parent's
        _obey_signals(place)
        _end_with(parent)
        os.closerange(3, write)
        os.closerange(write + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        # Where a parent's death is not told, this bounds what outlives it.
        resource.setrlimit(resource.RLIMIT_CPU, (int(within_s) + 5, int(within_s) + 5))
        tempfile.tempdir = place
        reply = json.dumps(_outcome(compute)).encode()
        with os.fdopen(write, "wb") as pipe:
            pipe.write(reply)
        os._exit(0)
    finally:
        os._exit(1)


def _outcome(compute: Callable[[], Json]) -> tuple[str, Json | str]:
    try:
        return "done", compute()
    except DomainError as refusal:
        return "refused", str(refusal)
    except Exception as error:
        log.exception("a fit failed")
        return "failed", f"The fit failed: {type(error).__name__}."


def _obey_signals(place: str) -> None:
    """The pool's and the loop's handlers go; an order to end takes the whole group and its files along."""
    # A group that lost its parent while one of it is stopped gets SIGHUP besides.
    ending = (signal.SIGTERM, signal.SIGHUP)

    def leave(number: int, frame: object) -> None:
        for again in ending:
            signal.signal(again, signal.SIG_IGN)
        shutil.rmtree(place, ignore_errors=True)
        os.killpg(0, signal.SIGKILL)

    signal.set_wakeup_fd(-1)
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    for number in ending:
        signal.signal(number, leave)


def _end_with(parent: int) -> None:
    """Get SIGTERM when the thread that forked us ends, which may be before we ask for it."""
    end_with_parent(signal.SIGTERM)
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGTERM)

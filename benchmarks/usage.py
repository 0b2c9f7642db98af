"""What trees of processes use, as /proc tells it; nothing where there is no /proc."""

import os
from collections import Counter, deque
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

_TICKS = os.sysconf("SC_CLK_TCK")
# What a process of `vitals up` is, by a word of its command line.
_KINDS = {
    b"uvicorn": "api",
    b"-Q\0ingest": "worker-ingest",
    b"-Q\0live": "worker-live",
    b"-Q\0slow": "worker-slow",
    b"\0beat\0": "beat",
    b"workers.relay": "relay",
    b"postgres": "postgres",
    b"valkey": "broker",
    b"redis": "broker",
    b"\0simulate\0": "simulation",
}


class _Stat(NamedTuple):
    pid: int
    parent: int
    ticks: int


def cpu_s(roots: Collection[int]) -> float:
    """User and system time of these processes and all below them, those that have ended included."""
    return sum(one.ticks for one in _below(roots)) / _TICKS


def cpu_s_by_kind(root: int) -> Mapping[str, float]:
    """The same below `root`, by kind of process; of what has ended, with its parent's."""
    sums: Counter[str] = Counter()
    for one in _below({root}):
        sums[_kind(one.pid)] += one.ticks
    return {kind: ticks / _TICKS for kind, ticks in sorted(sums.items())}


def memory_mb(root: int) -> Mapping[str, float]:
    """The proportional set size (MiB) below `root`, by kind of process: what is shared is divided."""
    sums: Counter[str] = Counter()
    for one in _below({root}):
        sums[_kind(one.pid)] += _share_kb(one.pid)
    return {kind: kb / 1024 for kind, kb in sorted(sums.items()) if kb}


def _below(roots: Collection[int]) -> list[_Stat]:
    children: dict[int, list[_Stat]] = {}
    found = []
    for one in _all():
        children.setdefault(one.parent, []).append(one)
        if one.pid in roots:
            found.append(one)
    waiting = deque(found)
    while waiting:
        below = children.get(waiting.popleft().pid, [])
        found += below
        waiting += below
    return found


def _all() -> Iterator[_Stat]:
    for file in Path("/proc").glob("[0-9]*/stat"):
        pid, _, rest = _read(file).decode(errors="replace").partition(" ")
        fields = rest.rpartition(")")[2].split()
        if fields:
            # Fields 14 to 17: its own time, and that of its children that have ended.
            yield _Stat(int(pid), int(fields[1]), sum(map(int, fields[11:15])))


def _kind(pid: int) -> str:
    command = _read(Path(f"/proc/{pid}/cmdline"))
    return next((kind for word, kind in _KINDS.items() if word in command), "other")


def _share_kb(pid: int) -> int:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith(b"Pss:"):
            return int(line.split()[1])
    return 0


def _read(file: Path) -> bytes:
    """Nothing where the process has just ended."""
    try:
        return file.read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return b""

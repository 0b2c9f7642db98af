"""Folding and rolling up a platform of 100,000 series: 100 accounts of 1,000, of one source.

`rollup_100k_s` is the time in which one minute of all of them becomes five minutes and an hour, once both are
over; `rollup_100k_5_minutes_s` that of five minutes that are full. `rollup_memory_mb` is by how much the
memory of the process that rolls up rises meanwhile (the longest of all; null where there is no /proc), and
`fold_points_per_s` how fast the points became minutes. Medians of hours that follow one another.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import NamedTuple
from uuid import UUID

import numpy as np

from benchmarks.filling import Filled
from domain.catalog import queries as catalog
from domain.catalog.entries import AccountEntry, Catalogue
from domain.core.ids import uuid7
from domain.telemetry import columns, series, sketches
from domain.telemetry.batches import Entry, Line
from domain.telemetry.columns import Columns
from domain.telemetry.points import Kind, Mode
from domain.telemetry.series import Measured

ACCOUNTS, SERIES = 100, 1_000
_HOURS = 3
_ACCOUNTS_A_BATCH = 2
_MINUTE = timedelta(minutes=1)


class _Hour(NamedTuple):
    fold_points_per_s: float
    roll_up_s: float
    grown_mb: float


async def measure(filled: Filled) -> dict[str, float | None]:
    accounts, source = await _register(filled)
    first = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(hours=20)
    await _hour(filled, accounts, source, first, minutes=1)  # compiles what is compiled
    begins = [first + timedelta(hours=hours) for hours in range(1, 2 * _HOURS + 1)]
    ones = [await _hour(filled, accounts, source, begin, minutes=1) for begin in begins[:_HOURS]]
    fives = [await _hour(filled, accounts, source, begin, minutes=5) for begin in begins[_HOURS:]]
    grown = max(one.grown_mb for one in (*ones, *fives))
    return {
        "rollup_100k_s": round(median(one.roll_up_s for one in ones), 3),
        "rollup_100k_5_minutes_s": round(median(one.roll_up_s for one in fives), 3),
        "rollup_memory_mb": round(grown, 1) if grown else None,
        "fold_points_per_s": round(median(one.fold_points_per_s for one in fives)),
    }


async def _register(filled: Filled) -> tuple[Sequence[UUID], int]:
    """The accounts, of which each has the series 1 to SERIES, and a source."""
    names, at = [f"rolling-{number:03}" for number in range(ACCOUNTS)], datetime.now(UTC)
    entries = [
        AccountEntry(external_id=name, name=name, country="DE", currency="EUR", time_zone="UTC")
        for name in names
    ]
    await filled.apply(Catalogue(accounts=entries))
    async with filled.app.transaction("operator") as session:
        accounts = [row.id for row in (await catalog.accounts_by_external_id(session, names)).values()]
        for account in accounts:
            wanted = [
                Measured(account, "orders", (("article", str(number)),), Kind.GAUGE)
                for number in range(SERIES)
            ]
            assert max((await series.numbers(session, wanted, at=at)).values()) == SERIES
        source = (await series.sources(session, ["benchmark"], scope="operator", at=at))["benchmark"]
    return accounts, source


async def _hour(
    filled: Filled, accounts: Sequence[UUID], source: int, begin: datetime, *, minutes: int
) -> _Hour:
    """Minutes of the hour's second five are folded, and then all is rolled up but the day."""
    await _log(filled, accounts, source, [begin + (5 + minute) * _MINUTE for minute in range(minutes)])
    began = time.perf_counter()
    points = await filled.fold()
    folded_s = time.perf_counter() - began
    assert points == minutes * len(accounts) * SERIES
    before_mb = _begin_of_peak()
    began = time.perf_counter()
    windows = await filled.roll_up(begin + 65 * _MINUTE)
    rolled_up_s = time.perf_counter() - began
    assert windows == 2 * len(accounts), windows
    return _Hour(points / folded_s, rolled_up_s, _memory_mb("VmHWM") - before_mb)


async def _log(filled: Filled, accounts: Sequence[UUID], source: int, minutes: Sequence[datetime]) -> None:
    """Batches of 2,000 points, as the API writes them."""
    line, rng = Line(filled.app), np.random.default_rng(1)
    for at in minutes:
        batches = [
            _batch(accounts[first : first + _ACCOUNTS_A_BATCH], source, at, rng)
            for first in range(0, len(accounts), _ACCOUNTS_A_BATCH)
        ]
        await line.write([_entry(batch) for batch in batches])
    await line.close()


def _batch(accounts: Sequence[UUID], source: int, at: datetime, rng: np.random.Generator) -> Columns:
    n = len(accounts) * SERIES
    return Columns(
        accounts=tuple(accounts),
        sources=(source,),
        account=np.repeat(np.arange(len(accounts), dtype=np.int32), SERIES),
        source=np.zeros(n, np.int32),
        number=np.tile(np.arange(1, SERIES + 1, dtype=np.int32), len(accounts)),
        at=np.full(n, int(at.timestamp())),
        value=rng.poisson(30, n).astype(np.float64),
        count=np.zeros(n, np.int64),
        mode=np.full(n, Mode.ADD, np.uint8),
        start=np.zeros(n, np.int64),
        time=np.zeros(n, np.int64),
        sketches=sketches.none(n),
    )


def _entry(batch: Columns) -> Entry:
    key = uuid7().bytes
    return Entry(
        key=key,
        scope="operator",
        body_hash=key,
        reply="{}",
        received_at=datetime.now(UTC),
        is_backfill=True,
        points=len(batch),
        columns=columns.encode(batch),
    )


def _begin_of_peak() -> float:
    """Let the peak of our memory begin with what it is now (MiB), which is returned."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return 0.0
    return _memory_mb("VmRSS")


def _memory_mb(name: str) -> float:
    try:
        status = Path("/proc/self/status").read_text()
    except OSError:
        return 0.0
    return int(status.partition(f"\n{name}:")[2].split()[0]) / 1024

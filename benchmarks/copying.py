"""What Postgres alone writes: `psql \\copy … from file binary`, a million rows each time.

The file lies in the page cache and psql does nothing but pass it on; the time is that of psql's \\timing, so
that neither its start nor its connecting counts. The table is empty before each COPY, and durable.
"""

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.bodies import Timed, identity
from ops.embedded.postgres import Postgres, package

ROWS = 1_000_000
_SIGNATURE = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_END = b"\xff\xff"
_POSTGRES_EPOCH_S = 946_684_800
_TIME = re.compile(r"^Time: ([0-9.]+) ms", re.MULTILINE)


@dataclass(frozen=True)
class Copying:
    """A plain table without index or key, and a file of ROWS rows of it."""

    postgres: Postgres
    table: str
    file: Path

    async def points_per_s(self) -> float:
        """Empty the table, write all that is dirty out, and copy the file in."""
        await self.postgres.ask(f"TRUNCATE {self.table}")
        await self.postgres.ask("CHECKPOINT")
        return ROWS / self._copy_s()

    def _copy_s(self) -> float:
        psql: Sequence[str | Path] = [package() / "pginstall" / "bin" / "psql", "-X", "-q"]
        copy = f"\\copy {self.table} from '{self.file}' with (format binary)"
        commands = ["-v", "ON_ERROR_STOP=1", "-c", "\\timing on", "-c", copy]
        ran = subprocess.run(
            [*psql, *commands, self.postgres.url()], capture_output=True, text=True, check=True
        )
        found = _TIME.search(ran.stdout)
        assert found is not None, ran.stdout
        return float(found[1]) / 1_000


async def narrow(postgres: Postgres, room: Path, batches: Sequence[Sequence[Timed]]) -> Copying:
    """The narrowest rows that hold the points: a number for the series, the time, the value."""
    numbers: dict[object, int] = {}
    series, at, value, _ = _columns(batches, lambda key: numbers.setdefault(key, len(numbers) + 1))
    columns = [np.array(series, ">i4"), at, value]
    await postgres.ask("CREATE TABLE raw_narrow (series int4, at timestamptz, value float8)")
    return _written(postgres, room, "raw_narrow", columns)


async def wide(postgres: Postgres, room: Path, batches: Sequence[Sequence[Timed]]) -> Copying:
    """The same with uuids for account, series and source, and a count of observations."""
    uuids: dict[object, bytes] = {}
    series, at, value, points = _columns(batches, lambda key: uuids.setdefault(key, _uuid(len(uuids))))
    account = [uuids.setdefault(one.account, _uuid(len(uuids))) for one in points]
    columns = [
        np.array(account, "V16"),
        np.array(series, "V16"),
        at,
        np.array([_uuid(0)] * len(points), "V16"),
        value,
        np.array([one.count or 0 for one in points], ">i8"),
    ]
    await postgres.ask(
        "CREATE TABLE raw_wide"
        " (account uuid, series uuid, at timestamptz, source uuid, value float8, count int8)"
    )
    return _written(postgres, room, "raw_wide", columns)


def _columns(batches: Sequence[Sequence[Timed]], name: Any) -> tuple[list[Any], Any, Any, list[Any]]:
    """The name of each point's series, its time, what adds up of it, and the points themselves."""
    timed = list(chain.from_iterable(batches))
    at = np.array([int(at.timestamp()) - _POSTGRES_EPOCH_S for at, _ in timed], ">i8") * 1_000_000
    value = np.array([one.value * (one.count or 1) for _, one in timed], ">f8")
    return [name(identity(one)) for _, one in timed], at.astype(">i8"), value, [one for _, one in timed]


def _uuid(number: int) -> bytes:
    return UUID(int=(0x0197 << 112) + number).bytes


def _written(postgres: Postgres, room: Path, table: str, columns: Sequence[NDArray[Any]]) -> Copying:
    """The rows again and again, in the binary form of COPY, until there are ROWS."""
    fields = [("fields", ">i2")]
    for place, column in enumerate(columns):
        fields += [(f"size{place}", ">i4"), (f"column{place}", column.dtype.str)]
    rows = np.zeros(ROWS, np.dtype(fields))
    rows["fields"] = len(columns)
    for place, column in enumerate(columns):
        rows[f"size{place}"] = column.itemsize
        rows[f"column{place}"] = np.resize(column, ROWS)
    file = room / f"{table}.copy"
    file.write_bytes(_SIGNATURE + rows.tobytes() + _END)
    return Copying(postgres, table, file)

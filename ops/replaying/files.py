"""Opens files, gzipped or not, and tells by their beginning what shape they have."""

import csv
import gzip
import io
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO, TextIO, cast

import msgspec

_GZIP = b"\x1f\x8b"
_TIMES = ("time", "timestamp", "minute", "at")
_STATUSES = ("status", "outcome")


class Shape(StrEnum):
    """How a file says what was: counts by outcome a minute, a status page's snapshots, or any columns."""

    OUTCOMES = "outcomes"
    STATUSPAGE = "statuspage"
    COLUMNS = "columns"


class Unusable(Exception):
    """A file that cannot be sent; the text names its line, counted from 1, and what is wrong there."""

    def __init__(self, message: str, *, line: int | None = None) -> None:
        super().__init__(f"line {line}: {message}" if line else message)


def opened(path: Path) -> TextIO:
    """The text of the file, unpacked where it is gzipped; a byte order mark is left out."""
    with path.open("rb") as file:
        packed = file.read(2) == _GZIP
    raw = gzip.GzipFile(path) if packed else path.open("rb")
    return io.TextIOWrapper(cast(BinaryIO, raw), encoding="utf-8-sig", newline="")


def header(path: Path) -> list[str]:
    """The names of a CSV's columns."""
    with opened(path) as file:
        return [name.strip() for name in next(csv.reader(file), [])]


def recognized(path: Path) -> Shape:
    """The shape, from the first line."""
    with opened(path) as file:
        first = file.readline()
    try:
        line = msgspec.json.decode(first)
    except msgspec.DecodeError:
        return Shape.OUTCOMES if outcome_columns(header(path)) else Shape.COLUMNS
    if isinstance(line, dict) and {"observed_at", "summary"} <= line.keys():
        return Shape.STATUSPAGE
    raise Unusable("is JSON, but not {observed_at, summary}: no such file can be sent", line=1)


def outcome_columns(names: Sequence[str]) -> tuple[str, str, str] | None:
    """The columns of time, outcome and count, where a file has these three and no other."""
    time = next((name for name in names if name.lower() in _TIMES), None)
    status = next((name for name in names if name.lower() in _STATUSES), None)
    others = [name for name in names if name not in (time, status)]
    if time is None or status is None or len(names) != 3 or len(others) != 1:
        return None
    return time, status, others[0]

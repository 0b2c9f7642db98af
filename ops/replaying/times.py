"""Reads the times that files write, as UTC seconds; what names no zone is local time of the given one."""

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import TypeVar
from zoneinfo import ZoneInfo

T = TypeVar("T", time, datetime)

_TIME_OF_DAY = re.compile(r"(\d{1,2})(?:h(?: ?(\d\d))?|:(\d\d)(?::(\d\d)(?:\.\d+)?)?)")
_EPOCH_S = re.compile(r"\d{9,10}(?:\.\d+)?")
_EPOCH_MS = re.compile(r"\d{12,13}")
_PART_OF_DATE = re.compile(r"\d{4}(-\d\d)?")
_FORMS = "an ISO 8601 time, a time of day such as 14h 30 or 14:30, or seconds since 1970"


class Times:
    """Times of one file. `date` is the day of those that are a time of day only."""

    def __init__(self, zone: ZoneInfo, *, date: date) -> None:
        self.zone, self.date = zone, date
        self.used_date = False
        self._last = "", 0

    def second(self, text: str) -> int:
        """Seconds since 1970; ValueError says what is wrong. Files repeat times: the last is remembered."""
        if self._last[0] != text:
            self._last = text, int(self._read(text.strip()).timestamp())
        return self._last[1]

    def _read(self, text: str) -> datetime:
        if found := _TIME_OF_DAY.fullmatch(text):
            self.used_date = True
            hour, *rest = (int(part) if part else 0 for part in found.groups())
            clock = _made(lambda: time(hour, rest[0] or rest[1], rest[2]), text)
            return localized(datetime.combine(self.date, clock), self.zone)
        if _EPOCH_S.fullmatch(text):
            return datetime.fromtimestamp(float(text), UTC)
        if _EPOCH_MS.fullmatch(text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
        return instant(text, self.zone)


def instant(text: str, zone: ZoneInfo) -> datetime:
    """A date (`2023`, `2023-05` and `2023-05-01` begin there) or an ISO 8601 time; ValueError otherwise."""
    if partial := _PART_OF_DATE.fullmatch(text):
        text += "-01" if partial[1] else "-01-01"
    found = _made(lambda: datetime.fromisoformat(text), text)
    return found.astimezone(UTC) if found.tzinfo else localized(found, zone)


def localized(naive: datetime, zone: ZoneInfo) -> datetime:
    """In UTC; the first of two where clocks go back, ValueError where they skip it."""
    found = naive.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) != naive:
        raise ValueError(f"{naive:%F %T} does not exist in {zone.key}: clocks go forward over it")
    return found


def _made(make: Callable[[], T], text: str) -> T:
    try:
        return make()
    except ValueError:
        raise ValueError(f"{text[:40]!r} is not a time: write {_FORMS}") from None

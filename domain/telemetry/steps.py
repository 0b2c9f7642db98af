"""The lengths of windows that are rolled up, in minutes. Days are the account's, from midnight on."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import asyncpg

MINUTE, FIVE_MINUTES, HOUR, DAY = 1, 5, 60, 1440
ROLLED_UP = (FIVE_MINUTES, HOUR, DAY)
_ZONES = "SELECT id, time_zone FROM accounts WHERE id = ANY($1)"


async def zones(connection: asyncpg.Connection, account_ids: Iterable[UUID]) -> Mapping[UUID, ZoneInfo]:
    """The time zone of each account that exists."""
    rows = await connection.fetch(_ZONES, list(account_ids))
    return {row["id"]: zone(row["time_zone"]) for row in rows}


def zone(name: str) -> ZoneInfo:
    """UTC for a zone that nobody knows: one account's must not stop the others' telemetry."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return ZoneInfo("UTC")


def midnight(at: datetime, zone: ZoneInfo) -> datetime:
    """When the local day of `at` begins, UTC; where midnight is skipped, the first instant of the day."""
    local = at.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    return local.astimezone(UTC)


def end(at: datetime, step: int, zone: ZoneInfo) -> datetime:
    """The end (exclusive) of the window that begins `at`."""
    if step < DAY:
        return at + timedelta(minutes=step)
    return midnight(at + timedelta(hours=36), zone)


def midnights(begin: int, end: int, zone: ZoneInfo) -> list[int]:
    """The local midnights from one to another, both included; epoch seconds."""
    found, at = [begin], datetime.fromtimestamp(begin, UTC)
    while found[-1] < end:
        at = midnight(at + timedelta(hours=36), zone)
        found.append(int(at.timestamp()))
    return found

"""Scalars beyond GraphQL's own; what cannot be read is refused in words that quote none of our code."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any, NewType

import strawberry
from graphql import GraphQLError
from strawberry.types.scalar import ScalarDefinition

SafeInt = NewType("SafeInt", int)
BigInt = NewType("BigInt", int)
Currency = NewType("Currency", str)
URL = NewType("URL", str)

_MAX_SAFE = 2**53 - 1
_INSTANT = re.compile(
    r"(\d{4}-\d{2}-\d{2})[Tt](\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_DURATION = re.compile(
    ""
    "P(?:(\\d{1,4})W|(?=.)(?:(\\d{1,5})D)?(?:T(?=.)(?:(\\d{1,6})H)?(?:(\\d{1,8})M)?(?:(\\d{1,9}(?:\\.\\d{1,6})?)S)?)?)",
    re.ASCII,
)


def instant(at: datetime) -> str:
    """RFC 3339 in UTC, whole milliseconds."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='milliseconds')}Z"


def parse_instant(value: Any) -> datetime:
    """Digits beyond the microsecond are dropped."""
    match = _INSTANT.fullmatch(value) if isinstance(value, str) else None
    if match:
        day, time, fraction, offset = match.groups()
        text = f"{day}T{time}.{(fraction or '0')[:6]:0<6}{offset.upper().replace('Z', '+00:00')}"
        try:
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            pass  # such as a 31st of February: refused below, like any other text
    raise GraphQLError("DateTime must be an instant with an offset, such as 2026-11-23T10:01:00Z.")


def duration(length: timedelta) -> str:
    """ISO 8601, in days, hours, minutes and seconds."""
    minutes, seconds = divmod(length.seconds, 60)
    hours, minutes = divmod(minutes, 60)
    exact = f"{seconds}.{length.microseconds:06}".rstrip("0").rstrip(".") if length.microseconds else seconds
    time = "".join(f"{n}{unit}" for n, unit in ((hours, "H"), (minutes, "M"), (exact, "S")) if n)
    day = f"{length.days}D" if length.days else ""
    return f"P{day}T{time}" if time else f"P{day or 'T0S'}"


def parse_duration(value: Any) -> timedelta:
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if not match:
        raise GraphQLError(
            "Duration must be weeks, or days, hours, minutes and seconds, such as PT5M or P1D."
        )
    weeks, days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)


def safe_int(value: Any) -> int:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not abs(value) <= _MAX_SAFE or value != int(value):
        raise GraphQLError("SafeInt must be a whole number between -(2^53 - 1) and 2^53 - 1.")
    return int(value)


def _parse_big_int(value: Any) -> int:
    if isinstance(value, str) and re.fullmatch(r"-?[0-9]{1,60}", value, re.ASCII):
        return int(value)
    raise GraphQLError('BigInt must be a whole number as text, such as "1200".')


def _parse_currency(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"[A-Z]{3}", value, re.ASCII):
        return value
    raise GraphQLError("Currency must be an ISO 4217 code, such as EUR.")


def _parse_url(value: Any) -> str:
    if isinstance(value, str) and re.fullmatch(r"https?://[^\s\x00-\x1f]{1,2000}", value):
        return value
    raise GraphQLError("URL must be absolute, such as https://example.com/.")


SCALARS: dict[object, ScalarDefinition] = {
    datetime: strawberry.scalar(
        name="DateTime",
        description="Instant, RFC 3339. Input may have any offset and up to nanoseconds, of which"
        " microseconds are kept; output is UTC, written `Z`, in whole milliseconds.",
        specified_by_url="https://scalars.graphql.org/chillicream/date-time.html",
        serialize=instant,
        parse_value=parse_instant,
    ),
    timedelta: strawberry.scalar(
        name="Duration",
        description="Length of time, ISO 8601: `PT5M`, `P1D`, `P1W`. A day is 24 hours; months and years,"
        " whose lengths differ, are not taken.",
        specified_by_url="https://scalars.graphql.org/chillicream/duration.html",
        serialize=duration,
        parse_value=parse_duration,
    ),
    SafeInt: strawberry.scalar(
        name="SafeInt",
        description="Whole number up to ±(2^53 - 1), as a JSON number that every client holds exactly."
        " Counts, sequence numbers, bytes.",
        serialize=safe_int,
        parse_value=safe_int,
    ),
    BigInt: strawberry.scalar(
        name="BigInt",
        description="Whole number of any size as a decimal string, for exact amounts.",
        serialize=str,
        parse_value=_parse_big_int,
    ),
    Currency: strawberry.scalar(
        name="Currency",
        description="ISO 4217 code, three capitals.",
        specified_by_url="https://www.iso.org/iso-4217-currency-codes.html",
        serialize=str,
        parse_value=_parse_currency,
    ),
    URL: strawberry.scalar(
        name="URL",
        description="Absolute URL.",
        specified_by_url="https://scalars.graphql.org/chillicream/url.html",
        serialize=str,
        parse_value=_parse_url,
    ),
}

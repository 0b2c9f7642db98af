from datetime import UTC, datetime, timedelta

import pytest
from graphql import GraphQLError

from api.graphql import ids, scalars
from api.graphql.money import money_range
from domain.core.ids import uuid7


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("2026-11-23T10:01:00Z", datetime(2026, 11, 23, 10, 1, tzinfo=UTC)),
        ("2026-11-23t10:01:00z", datetime(2026, 11, 23, 10, 1, tzinfo=UTC)),
        ("2026-11-23T10:01:00.5+02:00", datetime(2026, 11, 23, 8, 1, 0, 500_000, tzinfo=UTC)),
        ("2026-11-23T10:01:00.123456789-03:30", datetime(2026, 11, 23, 13, 31, 0, 123_456, tzinfo=UTC)),
    ],
)
def test_an_instant_is_read_with_any_offset(text: str, instant: datetime) -> None:
    assert scalars.parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    [
        "", "x", 1, None, "2026-11-23", "2026-11-23T10:01:00", "2026-11-23 10:01:00Z", "2026-02-31T00:00:00Z",
        "2026-11-23T25:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
        "2026-11-23T10:01:00+99:99",
        "٢٠٢٦-11-23T10:01:00Z", "2026-11-23T10:01:00.1234567890Z",
    ],
)  # fmt: skip
def test_what_is_no_instant_is_refused(text: object) -> None:
    with pytest.raises(GraphQLError, match="DateTime must be"):
        scalars.parse_instant(text)


def test_an_instant_is_written_in_utc_and_whole_milliseconds() -> None:
    at = datetime(2026, 11, 23, 10, 1, 0, 123_999, tzinfo=UTC).astimezone()

    assert scalars.instant(at) == "2026-11-23T10:01:00.123Z"


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("PT0S", timedelta()),
        ("PT5M", timedelta(minutes=5)),
        ("PT1.5S", timedelta(seconds=1.5)),
        ("P1D", timedelta(days=1)),
        ("P1DT2H3M4S", timedelta(days=1, hours=2, minutes=3, seconds=4)),
    ],
)
def test_a_duration_is_read_and_written_alike(text: str, length: timedelta) -> None:
    assert (scalars.parse_duration(text), scalars.duration(length)) == (length, text)


def test_weeks_and_long_parts_are_read() -> None:
    assert scalars.parse_duration("P2W") == timedelta(days=14)
    assert scalars.parse_duration("PT90M") == timedelta(minutes=90)


@pytest.mark.parametrize(
    "text",
    ["", "P", "PT", "P1DT", "1D", "P1M", "P1Y", "P-1D", "PT1.5H", "P1D2H", "P1W1D", 5, None, "P99999999D"],
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    with pytest.raises(GraphQLError, match="Duration must be"):
        scalars.parse_duration(text)


def test_a_safe_int_stays_within_what_every_client_holds_exactly() -> None:
    assert scalars.safe_int(2**53 - 1) == 2**53 - 1
    for value in (2**53, -(2**53), 1.5, True, "1", None, float("inf"), float("nan")):
        with pytest.raises(GraphQLError, match="SafeInt must be"):
            scalars.safe_int(value)


def test_money_saturates_and_has_the_digits_of_its_currency() -> None:
    found = money_range(-1, 10, 10**30, "JPY")

    assert found is not None
    assert (found.low, found.mid, found.high, found.exponent, found.confidence) == (
        -1,
        10,
        2**53 - 1,
        0,
        0.95,
    )
    assert money_range(None, 1, 2, "EUR") is None


def test_an_id_is_read_only_in_the_one_form_in_which_it_is_written() -> None:
    key = uuid7()
    text = ids.encode("Account", key)

    assert ids.decode(text) == ("Account", key)
    for other in (
        text + "=",
        text[:-1],
        text.lower(),
        f" {text}",
        ids.encode("Account", str(key).upper()),
        f"Account:{key}",
    ):
        assert ids.decode(other) is None

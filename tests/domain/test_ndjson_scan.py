"""The scan of NDJSON bodies: never another result than line by line, whatever the bytes."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.telemetry import ndjson, ndjson_scan, scanning
from domain.telemetry.decoded import Decoded
from domain.telemetry.interning import Interned
from domain.telemetry.ndjson_scan import ODD, PLAIN, UNKNOWN
from domain.telemetry.points import PointsRejected
from domain.telemetry.slots import Slots

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
BOUNDS = {"at": NOW, "oldest": NOW - timedelta(days=90)}

# The first of each are as most senders write them.
WRITTEN = {
    "account": [
        '"m-1"',
        '"m-2"',
        r'"m\u002d1"',
        '"é"',
        r'"a\"b"',
        r'"a\\"',
        '"a}b"',
        '"a,b:"',
        '""',
        "1",
        "null",
    ],
    "metric": [
        '"queue.depth"',
        '"payments.latency"',
        '"payments.count"',
        '"fraud.amount"',
        '"approval_rate"',
        '"1"',
    ],
    "at": [
        '"2026-11-23T10:01:00Z"',
        '"2026-11-23T10:01:59.999Z"',
        '"2026-11-23T12:01:00+02:00"',
        '"2026-11-23T08:31:00.5-01:30"',
        '"2026-11-23T10:01:59.9999999Z"',
        '"2026-11-23T10:01:59.999999499999Z"',
        '"2026-11-23 10:01:00Z"',
        '"2026-11-23t10:01:00z"',
        '"2026-11-23T10:01:00+0000"',
        r'"2026-11-23T10:01:00\u005a"',
        '"2026-11-23T10:01:00"',
        '"2026-11-23T10:01:60Z"',
        '"2026-11-23T24:01:00Z"',
        '"2026-11-23T10:01:00.Z"',
        '"2026-11-31T10:01:00Z"',
        '"2026-02-29T10:01:00Z"',
        '"2026-11-23T10:01:00+24:00"',
        '"2026-11-23T10:01:00+01:60"',
        '"2028-02-29T10:01:00Z"',
        '"1969-12-31T23:59:59.5Z"',
        '"0000-01-01T00:00:00Z"',
        '"-026-11-23T10:01:00Z"',
        '"',
        "1795428060",
    ],
    "value": [
        *["12", "0.1", "-3", "1.0", "0", "250.125", "1e3", "1E-2", "-0", "-0.0", "0.0", "9007199254740993"],
        *[
            "123456789012345678",
            "123456789012345678901234567890",
            "112.00554780731491",
            "0.30000000000000004",
        ],
        *[
            "1e400",
            "1e200",
            "1e201",
            "01",
            "1.",
            ".5",
            "-",
            "--1",
            "+1",
            "1.2.3",
            "NaN",
            "true",
            '"12"',
            "null",
            "",
        ],
    ],
    "labels": [
        '{"outcome":"approved"}',
        "{}",
        '{ "outcome" : "approved" , "code" : "" }',
        '{"a":"1","b":"2"}',
        '{"b":"2","a":"1"}',
        r'{"b":"2","a":"\u0031"}',
        '{"a":"}","b":"{"}',
        '{"a":"},","source":"x"}',
        '{"a":"}}"}',
        '{"a":"1","a":"2"}',
        r'{"a":"\"}"}',
        '{"a":1}',
        '{"a":{"b":"c"}}',
        '{"a":"\t"}',
        '{"a":"1",}',
        '{"ä":"1"}',
        '{"outcome":"odd"}',
        "{",
        "[]",
        "null",
    ],
    "source": [
        '"pod-1"',
        '"pod-2"',
        '""',
        r'"pod\u002d1"',
        '"é"',
        r'"a\"b"',
        r'"a\n"',
        '"\x7f"',
        r'"\ud800"',
        "null",
    ],
    "count": ["4", "1", "1000000000", "1000000001", "0", "-1", "04", "4.0", "4e0", "1" * 30, "null", '"4"'],
}
SPACE = st.sampled_from(["", "", "", " ", "\t", "\r", " \t ", "\x0c", "\n"])
END = st.sampled_from(["\n", "\n", "\n", "\r\n", "\n\n", " \n", ",\n", "}\n", "", "\x0b\n"])


@st.composite
def lines(draw: st.DrawFn) -> str:
    """A line that is mostly right: fields in any order, some left out, doubled, or written oddly."""
    names = list(draw(st.permutations(list(WRITTEN))))
    names = [name for name in names if name in ("account", "metric", "at", "value") or draw(st.booleans())]
    if draw(st.integers(0, 9)) == 0:
        names.append(draw(st.sampled_from([*WRITTEN, "more", "at\\u0000"])))
    if draw(st.integers(0, 9)) == 0:
        names.pop(draw(st.integers(0, len(names) - 1)))
    is_spaced = draw(st.integers(0, 3)) == 0
    space = SPACE if is_spaced else st.just("")
    fields = [
        f'{draw(space)}"{name}"{draw(space)}:{draw(space)}{_written(draw, name)}{draw(space)}'
        for name in names
    ]
    return f"{draw(space)}{{{','.join(fields)}}}{draw(END)}"


def _written(draw: st.DrawFn, name: str) -> str:
    values = WRITTEN.get(name, ["1"])
    return values[draw(st.integers(0, len(values) - 1)) if draw(st.integers(0, 5)) == 0 else 0]


def outcome(known: Slots, decode: Any, body: bytes) -> object:
    """All that is told of a body, by the names of its series, or why it is refused."""
    try:
        decoded = decode(body, **BOUNDS)
    except PointsRejected as error:
        return error.problems, error.total
    return _rows(known, decoded), tuple(column.tobytes() for column in _sketches(decoded))


def _rows(known: Slots, decoded: Decoded) -> list[tuple[object, ...]]:
    identities = [known.identities[slot] for slot in decoded.slot]
    sources = [decoded.sources[source] for source in decoded.source]
    value = decoded.value.view(np.int64)  # which tells 0.0 from -0.0
    rest = (decoded.at, value, decoded.count, decoded.mode, decoded.start, decoded.time, decoded.number)
    return list(zip(identities, sources, *(column.tolist() for column in rest), strict=True))


def _sketches(decoded: Decoded) -> tuple[np.ndarray[Any, Any], ...]:
    found = decoded.sketches
    return found.scale, found.zeros, found.ends, found.index, found.counts


def same_both_ways(body: bytes) -> object:
    """What comes of a body line by line, having seen that the scan agrees: unlearned, and learned."""
    plain, known = Slots(), Slots()
    expected = outcome(plain, ndjson.Decoder(plain).decode_line_by_line, body)
    decoder = ndjson.Decoder(known)
    assert outcome(known, decoder.decode, body) == expected
    assert outcome(known, decoder.decode, body) == expected
    return expected


@settings(deadline=None, max_examples=400)
@given(st.lists(lines(), min_size=1, max_size=5).map("".join))
def test_the_scan_says_what_is_said_line_by_line(body: str) -> None:
    same_both_ways(body.encode(errors="surrogatepass"))


@settings(deadline=None, max_examples=300)
@given(st.lists(lines(), min_size=1, max_size=3).map("".join), st.binary(max_size=4), st.data())
def test_bytes_changed_anywhere_change_both_alike(text: str, noise: bytes, data: st.DataObject) -> None:
    body = text.encode()
    place = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 8))

    same_both_ways(body[:place] + noise + body[place + cut :])
    same_both_ways(body[:place])


@pytest.mark.parametrize("name", WRITTEN)
def test_each_way_to_write_a_field_is_read_the_same(name: str) -> None:
    first = {field: values[0] for field, values in WRITTEN.items()}
    for value in WRITTEN[name]:
        for metric in WRITTEN["metric"]:
            fields = first | {"metric": metric, "labels": "{}"} | {name: value}
            line = ",".join(f'"{key}":{text}' for key, text in fields.items())
            same_both_ways(f"{{{line}}}".encode())


GOOD = b'{"account":"m","metric":"queue.depth","at":"2026-11-23T10:01:00Z","value":1,"labels":{"a":"1"}}'


def states(body: bytes, *learned: bytes) -> list[int]:
    """How the scan sees each line once a decoder has learned of others."""
    decoder = ndjson.Decoder(Slots())
    for one in learned:
        decoder.decode(one, **BOUNDS)
    rows = ndjson_scan.rows(10)
    size = ndjson_scan.scan(decoder.texts.tables, np.frombuffer(body, np.uint8), rows)
    return rows.state[:size].tolist()


def test_a_series_is_unknown_until_its_line_has_been_decoded() -> None:
    other = GOOD.replace(b'"1"', b'"2"')

    assert states(GOOD + b"\n\n" + other, GOOD) == [PLAIN, UNKNOWN]


@pytest.mark.parametrize(
    "line",
    [
        GOOD.replace(b',"', b' ,\t "').replace(b'":', b'" : ').replace(b'"a" : ', b'"a":') + b" \r",
        b'{"value":2.25,"at":"2026-11-23T12:01:00.1+02:00","account":"m","metric":"queue.depth","labels":{"a":"1"}}',
        GOOD[:-1] + b',"count":3,"source":"\xc3\xa9\\n"}',
        GOOD.replace(b":1,", b":-112.00554780731491,"),
    ],
)
def test_lines_of_the_plain_form_are_not_decoded_again(line: bytes) -> None:
    assert states(line, GOOD) == [PLAIN]


@pytest.mark.parametrize(
    "line",
    [
        GOOD[:-1],
        GOOD + b"x",
        GOOD[:-1] + b',"value":1}',
        GOOD[:-1] + b',"more":1}',
        GOOD[:-1] + b",}",
        GOOD.replace(b":1,", b":1e3,"),
        GOOD.replace(b":1,", b":-0,"),
        GOOD.replace(b":1,", b":01,"),
        GOOD.replace(b"00Z", b"00"),
        GOOD.replace(b"11-23", b"11-31"),
        GOOD.replace(b"2026", b"1969"),
        GOOD.replace(b'"m"', b'"m\\"'),
        b"{}",
        b"[]",
        b'{"at',
    ],
)
def test_lines_of_another_form_are_left_to_the_decoder(line: bytes) -> None:
    assert states(line + b"\n" + GOOD, GOOD) == [ODD, PLAIN]


def test_a_text_is_not_looked_for_beyond_its_line() -> None:
    broken = GOOD.replace(b'"m"', b'"m\nm"')

    assert states(broken + b"\n" + GOOD, GOOD) == [ODD, ODD, PLAIN]


def test_nothing_beyond_the_end_of_the_bytes_is_read() -> None:
    tables = Interned().tables
    body = np.frombuffer((GOOD + b"\n") * 2, np.uint8)
    for end in range(len(body)):
        cut, alone = ndjson_scan.rows(3), ndjson_scan.rows(3)
        size = ndjson_scan.scan(tables, body[:end], cut)
        assert size == ndjson_scan.scan(tables, np.frombuffer(body[:end].tobytes(), np.uint8), alone)
        assert cut.state[:size].tolist() == alone.state[:size].tolist()
        assert cut.places[:size].tolist() == alone.places[:size].tolist()
        assert (cut.places[:size, ndjson_scan.LINE + 1] <= end).all()


@pytest.mark.parametrize(
    "line",
    [b'{"labels":{', b'{"account":"', b'{"at', b"{" * 400, b" " * 400 + b"x", b'{"value":' + b"1" * 400],
)
def test_lines_that_end_nothing_take_no_longer_than_others(line: bytes) -> None:
    body = np.frombuffer((line + b"\n") * 9_999 + b"x" * 4_000_000, np.uint8)

    assert ndjson_scan.scan(Interned().tables, body, ndjson_scan.rows(10_000)) in (9_999, 10_000)


def test_rows_that_there_is_no_room_for_are_told() -> None:
    body = np.frombuffer(b"x\n" * 4, np.uint8)

    assert ndjson_scan.scan(Interned().tables, body, ndjson_scan.rows(3)) == -1


def test_the_same_labels_in_another_order_are_one_series_also_when_both_are_known() -> None:
    one = GOOD.replace(b'{"a":"1"}', b'{"a":"1","b":"2"}')
    other = GOOD.replace(b'{"a":"1"}', b'{"b":"2","a":"1"}')
    decoder = ndjson.Decoder(Slots())
    assert len(decoder.decode(one, **BOUNDS)) == len(decoder.decode(other, **BOUNDS)) == 1

    with pytest.raises(PointsRejected, match="line 2: has the same series, source and minute as line 1"):
        decoder.decode(one + b"\n" + other, **BOUNDS)


def test_what_the_texts_meant_is_learned_again_when_the_table_was_emptied() -> None:
    known = Slots()
    decoder = ndjson.Decoder(known, texts=Interned(entries=4))
    body = b"\n".join(GOOD.replace(b'"1"', b'"%d"' % i) for i in range(20))

    for _ in range(3):
        decoded = decoder.decode(body, **BOUNDS)
        assert [known.identities[slot].labels for slot in decoded.slot] == [
            (("a", str(i)),) for i in range(20)
        ]


NUMBER = st.one_of(
    st.floats(0, 1e15).map(repr),
    st.decimals(0, 10**9, places=9).map(str),
    st.integers(0, 10**20).map(str),
    st.tuples(st.integers(0, 10**12), st.integers(0, 10**8)).map(lambda parts: f"{parts[0]}.{parts[1]}"),
)


@settings(deadline=None, max_examples=2000)
@given(NUMBER, st.sampled_from(["", "-"]))
def test_a_number_is_the_nearest_double_or_none(text: str, sign: str) -> None:
    value, end = scanning.number(np.frombuffer(f"{sign}{text},".encode(), np.uint8), 0)

    if end >= 0 and not np.isnan(value):
        assert (value, end) == (float(sign + text), len(sign + text)) or "e" in text.lower()


def test_doubles_of_seventeen_digits_are_read_right_away() -> None:
    values = np.random.default_rng(1).lognormal(5, 2, 2000).tolist()
    read = [scanning.number(np.frombuffer(repr(value).encode(), np.uint8), 0)[0] for value in values]

    surely = [(found, value) for found, value in zip(read, values, strict=True) if not np.isnan(found)]
    assert len(surely) > 1990
    assert [found for found, _ in surely] == [value for _, value in surely]


DAYS = 365 * 130 + 32  # to the end of 2099
ZONES = st.integers(-23 * 60 - 59, 23 * 60 + 59).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.timedeltas(timedelta(days=2), timedelta(days=DAYS - 2)).map(lambda past: EPOCH + past)


@settings(deadline=None, max_examples=500)
@given(TIMES, ZONES, st.sampled_from(["seconds", "milliseconds", "microseconds"]))
def test_a_time_is_its_second(moment: datetime, zone: timezone, precision: str) -> None:
    text = f'"{moment.astimezone(zone).isoformat(timespec=precision)}"'
    second, end = scanning.time(np.frombuffer(text.encode(), np.uint8), 0)

    assert (second, end) == (int(moment.timestamp()), len(text)) or (end == -1 and ".999999" in text)


@pytest.mark.parametrize("day", ["1970-01-01", "2000-02-29", "2028-02-29", "2026-04-30", "2099-12-31"])
def test_days_that_there_are_are_read(day: str) -> None:
    body = np.frombuffer(f'"{day}T00:00:00Z"'.encode(), np.uint8)

    assert scanning.time(body, 0) == (int(datetime.fromisoformat(f"{day}T00:00Z").timestamp()), len(body))


@pytest.mark.parametrize(
    "day",
    [
        *["2026-02-29", "2028-02-30", "2026-04-31", "2026-01-32", "2026-01-00", "2026-00-01", "2026-13-01"],
        *["1969-12-31", "2100-01-01", "20a6-01-01", "2026-1 -01", "2026/01/01"],
    ],
)
def test_days_that_there_are_not_are_left_to_the_decoder(day: str) -> None:
    assert scanning.time(np.frombuffer(f'"{day}T00:00:00Z"'.encode(), np.uint8), 0)[1] == -1

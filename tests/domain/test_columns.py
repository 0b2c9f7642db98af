"""The batch in the log: what was written is read, and what is no batch is refused."""

import struct
import zlib
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.telemetry import columns
from domain.telemetry.columns import Columns, CorruptBatch, Key
from domain.telemetry.points import Mode, Point

KEY = Key(UUID(int=1), UUID(int=2), UUID(int=3))
OTHER = Key(UUID(int=1), UUID(int=4), UUID(int=3))
INT64 = st.integers(-(2**63), 2**63 - 1)
KEYS = st.builds(Key, st.uuids(), st.uuids(), st.uuids())
ROWS = st.lists(st.tuples(KEYS, INT64, st.floats(), INT64, st.integers(0, 1)), max_size=50)


def fields(batch: Columns) -> tuple[object, ...]:
    """All of it, compared to the bit (not-a-number equals itself)."""
    arrays = (batch.key, batch.at, batch.value, batch.count, batch.mode)
    return batch.keys, *[(array.dtype, array.tobytes()) for array in arrays]


def build(rows: list[tuple[Key, int, float, int, int]]) -> Columns:
    keys = tuple(dict.fromkeys(row[0] for row in rows))
    return Columns(
        keys=keys,
        key=np.array([keys.index(row[0]) for row in rows], np.int32),
        at=np.array([row[1] for row in rows], np.int64),
        value=np.array([row[2] for row in rows], np.float64),
        count=np.array([row[3] for row in rows], np.int64),
        mode=np.array([row[4] for row in rows], np.uint8),
    )


def point(at: int, value: float, *, count: int | None = None, mode: Mode = Mode.REPLACE) -> Point:
    return Point(account="m-1", metric="m", at=at, value=value, count=count, mode=mode)


@settings(deadline=None)
@given(ROWS)
def test_a_batch_is_read_as_it_was_written(rows: list[tuple[Key, int, float, int, int]]) -> None:
    batch = build(rows)

    assert fields(columns.decode(columns.encode(batch))) == fields(batch)


def test_points_become_rows_that_add_up() -> None:
    points = [point(120, 7.0), point(180, 2.5, count=4, mode=Mode.ADD), point(60, -1.0)]

    batch = columns.gather(points, [KEY, OTHER, KEY])

    assert batch.keys == (KEY, OTHER)
    assert len(batch) == 3
    assert batch.key.tolist() == [0, 1, 0]
    assert batch.at.tolist() == [120, 180, 60]
    assert batch.value.tolist() == [7.0, 10.0, -1.0]
    assert batch.count.tolist() == [0, 4, 0]
    assert batch.mode.tolist() == [Mode.REPLACE, Mode.ADD, Mode.REPLACE]


def test_version_one_stays_readable() -> None:
    body = (
        b"".join(part.bytes for part in KEY)
        + struct.pack("<2i", 0, 0)
        + struct.pack("<2q", 1_795_428_060, 60)
        + struct.pack("<2d", 12.0, 0.5)
        + struct.pack("<2q", 0, 3)
        + bytes([Mode.REPLACE, Mode.ADD])
    )

    batch = columns.decode(b"VTC\x01" + struct.pack("<II", 1, 2) + zlib.compress(body))

    assert batch.keys == (KEY,)
    assert batch.at.tolist() == [1_795_428_060, 1_795_428_120]
    assert batch.value.tolist() == [12.0, 0.5]
    assert batch.count.tolist() == [0, 3]
    assert batch.mode.tolist() == [0, 1]


def test_a_minute_of_many_series_takes_few_bytes_a_point() -> None:
    keys = [Key(UUID(int=1), UUID(int=i), UUID(int=2)) for i in range(100)]
    points = [point(60 * minute, float(minute % 7)) for minute in range(60) for _ in keys]

    assert len(columns.encode(columns.gather(points, keys * 60))) < 6_000


GOOD = columns.encode(columns.gather([point(60, 1.0), point(120, 2.0)], [KEY, OTHER]))
BOMB = b"VTC\x01" + struct.pack("<II", 1, 1) + zlib.compress(bytes(10_000_000))
STRAY = b"VTC\x01" + struct.pack("<II", 0, 1) + zlib.compress(bytes(29))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (b"", "The batch is shorter than its header."),
        (b"VTC\x02" + GOOD[4:], "Batches of version 2 (b'VTC') cannot be read."),
        (b"XXX" + GOOD[3:], "Batches of version 1 (b'XXX') cannot be read."),
        (GOOD[:-1], "The batch does not have the 154 bytes its header promises."),
        (GOOD + b"x", "The batch does not have the 154 bytes its header promises."),
        (BOMB, "The batch does not have the 77 bytes its header promises."),
        (STRAY, "A row of the batch refers to no key."),
    ],
)
def test_what_is_no_batch_is_refused(batch: bytes, message: str) -> None:
    with pytest.raises(CorruptBatch) as caught:
        columns.decode(batch)

    assert str(caught.value) == message


@settings(deadline=None)
@given(st.binary(max_size=60), st.integers(0, len(GOOD)))
def test_any_bytes_give_a_batch_or_a_refusal(noise: bytes, place: int) -> None:
    for sent in (noise, GOOD[:place] + noise + GOOD[place:], GOOD[:12] + zlib.compress(noise)):
        try:
            columns.decode(sent)
        except CorruptBatch:
            continue

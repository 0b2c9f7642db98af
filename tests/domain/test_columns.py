"""The batch in the log: what was written is read, and what is no batch is refused."""

import zlib
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.core.db import Database, raw
from domain.telemetry import columns, old_columns, sketches
from domain.telemetry.columns import Columns, CorruptBatch
from domain.telemetry.old_columns import OldColumns
from domain.telemetry.points import Mode
from tests import make

INT32, INT64 = st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1)
ROWS = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 2), INT32, INT64, st.floats(), INT64, st.sampled_from(Mode)),
    max_size=50,
)
OBSERVED = st.lists(st.floats(0, 1e12), max_size=5)
ACCOUNTS = tuple(UUID(int=number) for number in range(1, 5))
ARRAYS = ("account", "source", "number", "at", "value", "count", "mode", "start", "time")


def build(rows: list[tuple[int, int, int, int, float, int, Mode]], observed: list[float]) -> Columns:
    account, source, number, at, value, count, mode = zip(*rows, strict=True) if rows else [()] * 7
    observed = observed if rows else []
    return Columns(
        accounts=ACCOUNTS,
        sources=(7, 8, 2**31 - 1),
        account=np.array(account, np.int32),
        source=np.array(source, np.int32),
        number=np.array(number, np.int32),
        at=np.array(at, np.int64),
        value=np.array(value, np.float64),
        count=np.array(count, np.int64),
        mode=np.array(mode, np.uint8),
        start=np.array(at, np.int64),
        time=np.array(count, np.int64),
        sketches=sketches.of_values(
            np.array(observed, float), rows=np.zeros(len(observed), np.int64), n=len(rows)
        ),
    )


def fields(batch: Columns) -> tuple[object, ...]:
    """All of it, compared to the bit (not-a-number equals itself)."""
    arrays = [(getattr(batch, name).dtype, getattr(batch, name).tobytes()) for name in ARRAYS]
    return batch.accounts, batch.sources, *arrays, sketches.encode(batch.sketches)


@settings(deadline=None)
@given(ROWS, OBSERVED)
def test_a_batch_is_read_as_it_was_written(
    rows: list[tuple[int, int, int, int, float, int, Mode]], observed: list[float]
) -> None:
    batch = build(rows, observed)
    assert fields(columns.decode(columns.encode(batch))) == fields(batch)


@settings(deadline=None)
@given(ROWS, OBSERVED, st.data())
def test_a_batch_that_was_cut_or_changed_is_refused_or_read(
    rows: list[tuple[int, int, int, int, float, int, Mode]], observed: list[float], data: st.DataObject
) -> None:
    blob = bytearray(columns.encode(build(rows, observed)))
    place = data.draw(st.integers(0, len(blob) - 1))
    with pytest.raises(CorruptBatch):
        columns.decode(bytes(blob[:place]))
    blob[place] ^= data.draw(st.integers(1, 255))
    try:
        columns.decode(bytes(blob))
    except CorruptBatch:
        return


def test_batches_are_put_together_under_common_accounts_and_sources() -> None:
    first = build([(1, 0, 5, 60, 1.5, 0, Mode.ADD)], [])
    other = Columns(
        ACCOUNTS[1:2],
        (8,),
        *(getattr(first, name) * (name not in ("account",)) for name in ARRAYS),
        first.sketches,
    )
    both = columns.concat([first, other])
    assert [both.accounts[index] for index in both.account] == [ACCOUNTS[1]] * 2
    assert [both.sources[index] for index in both.source] == [7, 8]
    assert fields(both.take(np.array([0]))) == fields(first)


def test_what_is_no_batch_or_of_a_newer_release_is_refused() -> None:
    for blob, message in (
        (b"", "shorter"),
        (b"XYZ\x02....", "begins with"),
        (b"VTC\x03....", "version 3"),
    ):
        with pytest.raises(CorruptBatch, match=message):
            columns.decode(blob)


def old_batch(keys: list[tuple[UUID, UUID, UUID]], rows: list[tuple[int, int, float, int, int]]) -> bytes:
    """A batch of version 1, as the release before wrote it."""
    key, at, value, count, mode = (np.array(column) for column in zip(*rows, strict=True))
    parts = (
        b"".join(part.bytes for one in keys for part in one),
        key.astype("<i4").tobytes(),
        np.diff(at, prepend=0).astype("<i8").tobytes(),
        value.astype("<f8").tobytes(),
        count.astype("<i8").tobytes(),
        mode.astype("u1").tobytes(),
    )
    header = b"VTC\x01" + np.array([len(keys), len(rows)], "<u4").tobytes()
    return header + zlib.compress(b"".join(parts), level=1)


async def test_a_batch_of_the_release_before_is_read_by_the_numbers_of_its_series(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    series, source = await make.series(worker_db, account, outcome="approved"), await make.source(worker_db)
    gone = UUID(int=9)
    keys = [(account.id, series.id, source.id), (account.id, gone, source.id)]
    blob = old_batch(
        keys, [(0, 60, 5.0, 0, Mode.REPLACE), (1, 60, 9.0, 0, Mode.ADD), (0, 120, 2.5, 4, Mode.ADD)]
    )
    async with worker_db.read() as session:
        found = await old_columns.translate(await raw(session), old_columns.decode(blob))
    assert found.accounts == (account.id,)
    assert found.number.tolist() == [series.number] * 2
    assert [found.sources[index] for index in found.source] == [source.number] * 2
    assert (found.at.tolist(), found.value.tolist(), found.count.tolist()) == ([60, 120], [5.0, 2.5], [0, 4])
    assert found.mode.tolist() == [Mode.REPLACE, Mode.ADD]


@settings(deadline=None)
@given(st.integers(0, 200))
def test_an_old_batch_that_ends_too_early_is_refused(end: int) -> None:
    keys = [(UUID(int=1), UUID(int=2), UUID(int=3))]
    blob = old_batch(keys, [(0, 60, 5.0, 0, Mode.ADD)])
    if end < len(blob):
        with pytest.raises(CorruptBatch):
            old_columns.decode(blob[:end])
    else:
        assert isinstance(old_columns.decode(blob), OldColumns)

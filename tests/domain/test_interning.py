"""The table of interned keys: it answers as a dict does until it is emptied, and never for another key."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.telemetry import interning
from domain.telemetry.interning import MAX_SEGMENT, MISSING, Bytes, Interned, Spans

ROOMY = Interned()


def key(*segments: bytes, before: bytes = b"") -> tuple[Bytes, Spans]:
    """A body that holds the segments one after the other, and where they lie."""
    ends = len(before) + np.cumsum([len(segment) for segment in segments])
    starts = ends - [len(segment) for segment in segments]
    body = np.frombuffer(before + b"".join(segments), np.uint8)
    return body, np.stack([starts, ends], axis=1).reshape(-1).astype(np.int64)


Key = tuple[list[bytes], int]

KEYS = st.tuples(st.lists(st.binary(max_size=20), min_size=4, max_size=4), st.integers(-1, 3))


@settings(deadline=None)
@given(st.lists(st.tuples(KEYS, st.integers(0, 2**31 - 1)), max_size=40), KEYS, st.binary(max_size=9))
def test_a_table_with_room_answers_as_a_dict(added: list[tuple[Key, int]], asked: Key, shift: bytes) -> None:
    table, expected = Interned(entries=64), {}
    for (segments, tag), value in added:
        assert not table.add(*key(*segments), value, tag=tag)
        expected[tuple(segments), tag] = value

    for segments, tag in (asked, *[one for one, _ in added]):
        found = table.get(*key(*segments, before=shift), tag=tag)
        assert found == expected.get((tuple(segments), tag), MISSING)
    assert len(table) == len(expected)


def test_where_one_segment_ends_and_the_next_begins_matters() -> None:
    table = Interned(entries=8)
    table.add(*key(b"ab", b"c"), 1)

    assert table.get(*key(b"a", b"bc")) == MISSING
    assert table.get(*key(b"abc")) == MISSING
    assert table.get(*key(b"ab", b"c", b"")) == 1


@pytest.mark.parametrize("length", range(1, 40))
def test_a_key_that_differs_in_one_byte_is_another(length: int) -> None:
    content = bytes(range(length))
    ROOMY.add(*key(content), length)

    for place in range(length):
        other = content[:place] + bytes([content[place] ^ 0x80]) + content[place + 1 :]
        assert ROOMY.get(*key(other)) == MISSING
    assert ROOMY.get(*key(content)) == length


def test_keys_whose_hashes_are_the_same_are_told_apart_by_their_bytes() -> None:
    table = Interned(entries=8)
    table.tables.secret[:] = 0
    one, other = key(bytes(8) + b"first..."), key(bytes(8) + b"second..")
    table.add(*one, 1)
    digests = {int(interning.find(table.tables, *pair, 0)[1]) for pair in (one, other)}

    assert len(digests) == 1  # without a secret a zero word forgets what came before it, and after it
    assert table.get(*other) == MISSING
    table.add(*other, 2)
    assert (table.get(*one), table.get(*other)) == (1, 2)


def test_a_table_that_has_no_place_for_a_key_is_emptied_and_says_so() -> None:
    table = Interned(entries=1 << 12)
    table.tables.secret[:] = 0
    zeros = [key(bytes(8) + number.to_bytes(8, "little")) for number in range(65)]

    assert not any(table.add(*pair, 1) for pair in zeros[:64])
    assert table.add(*zeros[64], 1)
    assert (len(table), table.get(*zeros[64]), table.get(*zeros[0])) == (1, 1, MISSING)


def test_a_table_with_its_number_of_keys_is_emptied_for_the_next() -> None:
    table = Interned(entries=3)
    keys = [key(str(number).encode()) for number in range(4)]

    assert [table.add(*pair, number) for number, pair in enumerate(keys)] == [False, False, False, True]
    assert [table.get(*pair) for pair in keys] == [MISSING, MISSING, MISSING, 3]


def test_a_table_with_its_number_of_bytes_is_emptied_for_the_next() -> None:
    table = Interned(entries=100, size=1 << 12)
    keys = [key(bytes([number]) * 1_000) for number in range(5)]

    assert [table.add(*pair, number) for number, pair in enumerate(keys)] == [False] * 4 + [True]


def test_long_keys_are_kept() -> None:
    table = Interned()
    keys = [key(bytes([number]) * 20_000) for number in range(50)]
    for number, pair in enumerate(keys):
        assert not table.add(*pair, number)

    assert [table.get(*pair) for pair in keys] == list(range(50))


def test_what_is_too_long_is_not_kept() -> None:
    table = Interned(size=1 << 12)

    assert not table.add(*key(bytes(1_100)), 1)
    assert not ROOMY.add(*key(bytes(MAX_SEGMENT + 1)), 1)
    assert table.get(*key(bytes(1_100))) == MISSING
    assert ROOMY.get(*key(bytes(MAX_SEGMENT + 1))) == MISSING
    assert not ROOMY.add(*key(*[bytes(MAX_SEGMENT)] * 4), 1)
    assert ROOMY.get(*key(*[bytes(MAX_SEGMENT)] * 4)) == 1


def test_who_reads_while_a_table_is_emptied_reads_what_was() -> None:
    table = Interned(entries=1)
    first = key(b"first")
    table.add(*first, 1)
    tables = table.tables

    assert table.add(*key(b"other"), 2)
    assert interning.lookup(tables, *first, 0) == 1
    assert table.get(*first) == MISSING

"""Sketches: merging is exact, quantiles are within their bound, and spoilt bytes are refused."""

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from domain.telemetry import packing, sketches
from domain.telemetry.sketches import MAX_SCALE, CorruptSketches, Sketches

Plain = tuple[int, int, dict[int, int]]  # scale, zeros, counts by index

WITHIN = 2 ** (1 / 32) - 1 + 1e-9
LARGEST, SMALLEST = float(np.finfo(float).max), 5e-324
VALUES = st.lists(st.just(0.0) | st.floats(SMALLEST, LARGEST) | st.floats(1, 1000), max_size=8)
SCALES = st.integers(sketches.MIN_SCALE, MAX_SCALE) | st.just(MAX_SCALE)
ROWS = st.lists(st.tuples(VALUES, SCALES), max_size=8)


def bucket(value: float, scale: int) -> int:
    fraction, exponent = math.frexp(value)
    finest = (exponent - 1) * 16 - 1 + sum(2 * fraction > 2 ** (step / 16) for step in range(16))
    return finest >> (MAX_SCALE - scale)


def plain(values: Sequence[float], scale: int = MAX_SCALE) -> Plain:
    buckets = Counter(bucket(value, scale) for value in values if value)
    return scale if buckets else MAX_SCALE, sum(not value for value in values), dict(buckets)


def build(rows: Sequence[Plain]) -> Sketches:
    buckets = [pair for _, _, counts in rows for pair in sorted(counts.items())]
    return Sketches(
        np.array([scale for scale, _, _ in rows], np.int8),
        np.array([zeros for _, zeros, _ in rows], np.int64),
        np.cumsum([len(counts) for _, _, counts in rows], dtype=np.int64),
        np.array([index for index, _ in buckets], np.int32),
        np.array([count for _, count in buckets], np.int64),
    )


def described(s: Sketches) -> list[Plain]:
    """All of it; the kinds of its arrays and the order of its buckets are what they must be."""
    kinds = [array.dtype for array in (s.scale, s.zeros, s.ends, s.index, s.counts)]
    assert kinds == [np.int8, np.int64, np.int64, np.int32, np.int64]
    rows = []
    for row, end in enumerate(s.ends.tolist()):
        part = slice(int(s.ends[row - 1]) if row else 0, end)
        index, counts = s.index[part].tolist(), s.counts[part].tolist()
        assert index == sorted(set(index))
        rows.append((int(s.scale[row]), int(s.zeros[row]), dict(zip(index, counts, strict=True))))
    assert len(s.index) == len(s.counts) == sum(len(counts) for _, _, counts in rows)
    return rows


def sketched(rows: Sequence[tuple[Sequence[float], int]]) -> Sketches:
    return build([plain(values, scale) for values, scale in rows])


def one(*values: float) -> Sketches:
    return sketches.of_values(np.array(values, float), rows=np.zeros(len(values), np.int64), n=1)


@pytest.mark.parametrize(
    ("value", "index"),
    [
        (1.0, -1),
        (math.nextafter(1, 2), 0),
        (2 ** (1 / 16), 0),
        (2.0, 15),
        (0.5, -17),
        (SMALLEST, -17185),
        (LARGEST, 16383),
    ],
)
def test_a_value_lies_in_the_bucket_that_ends_with_its_upper_bound(value: float, index: int) -> None:
    assert described(one(value)) == [(MAX_SCALE, 0, {index: 1})]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.just(0.0) | st.floats(SMALLEST, LARGEST)), max_size=20))
def test_each_observation_is_counted_in_its_row(written: list[tuple[int, float]]) -> None:
    rows = np.array([row for row, _ in written], np.int64)
    values = np.array([value for _, value in written], float)

    assert described(sketches.of_values(values, rows=rows, n=5)) == [
        plain([value for at, value in written if at == row]) for row in range(5)
    ]
    assert described(sketches.of_values(values)) == [plain([value]) for _, value in written]


@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_what_is_no_observation_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match="negative or not finite"):
        one(1.0, value)


@settings(deadline=None)
@given(ROWS, st.data())
def test_merging_is_the_sketch_of_all_observations(
    rows: list[tuple[list[float], int]], data: st.DataObject
) -> None:
    group = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))

    merged = sketches.merge(sketched(rows), np.array(group, np.int64), 4)

    for number, found in enumerate(described(merged)):
        members = [row for row, into in zip(rows, group, strict=True) if into == number]
        scale = min((scale for values, scale in members if any(values)), default=MAX_SCALE)
        assert found == plain([value for values, _ in members for value in values], scale)


@settings(deadline=None)
@given(ROWS, st.data())
def test_merging_comes_to_the_same_in_any_order_and_in_any_stages(
    rows: list[tuple[list[float], int]], data: st.DataObject
) -> None:
    s, n = sketched(rows), len(rows)
    stage = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), np.int64)
    last = np.array(data.draw(st.lists(st.integers(0, 2), min_size=5, max_size=5)), np.int64)
    order = np.array(data.draw(st.permutations(range(n))), np.int64)

    at_once = described(sketches.merge(s, last[stage], 3))

    assert described(sketches.merge(sketches.take(s, order), last[stage][order], 3)) == at_once
    assert described(sketches.merge(sketches.merge(s, stage, 5), last, 3)) == at_once


@settings(deadline=None)
@given(ROWS, st.data())
def test_taking_and_joining_is_that_of_lists(
    rows: list[tuple[list[float], int]], data: st.DataObject
) -> None:
    s, listed = sketched(rows), [plain(values, scale) for values, scale in rows]
    places = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=9)) if rows else []
    mask = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))

    assert described(sketches.take(s, np.array(places, np.int64))) == [listed[place] for place in places]
    kept = [row for row, is_kept in zip(listed, mask, strict=True) if is_kept]
    assert described(sketches.take(s, np.array(mask, bool))) == kept
    assert described(sketches.concat([s, sketches.none(2), s])) == listed + [plain([])] * 2 + listed
    assert described(sketches.concat([])) == []


@settings(deadline=None)
@given(VALUES, SCALES, VALUES, SCALES)
def test_what_was_added_comes_back_by_subtracting(
    values: list[float], scale: int, more: list[float], other_scale: int
) -> None:
    earlier, added = sketched([(values, scale)]), sketched([(more, other_scale)])

    difference, fell = sketches.subtract(sketches.add(earlier, added), earlier)

    is_coarse = any(values) and any(more)
    assert described(difference) == [plain(more, min(scale, other_scale) if is_coarse else other_scale)]
    assert fell.tolist() == [False]


@settings(deadline=None)
@given(ROWS)
def test_a_total_of_which_a_count_fell_stands_in_full(rows: list[tuple[list[float], int]]) -> None:
    later = sketched([(values[1:], MAX_SCALE) for values, _ in rows])
    earlier = sketched([(values, MAX_SCALE) for values, _ in rows])

    difference, fell = sketches.subtract(later, earlier)

    assert fell.tolist() == [bool(values) for values, _ in rows]
    assert described(difference) == [plain(values[1:]) for values, _ in rows]


def test_an_explicit_bucket_goes_to_the_middle_of_its_bounds() -> None:
    found = sketches.of_explicit([0.0, 5.0, 10.0, 100.0], np.array([[1, 2, 3, 4, 5], [0, 0, 0, 1, 0]]))

    first = [0.0] + [2.5] * 2 + [math.sqrt(50)] * 3 + [math.sqrt(1000)] * 4 + [100.0] * 5
    assert described(found) == [plain(first), plain([math.sqrt(1000)])]


@pytest.mark.parametrize(
    ("bounds", "values"),
    [
        ([10.0], [5.0, 10.0]),
        ([-5.0, -1.0], [0.0, 0.0, 0.0]),
        ([-5.0, 4.0], [0.0, 2.0, 4.0]),
        ([100.0, 100.1], [50.0, 100.05, 100.1]),
    ],
)
def test_the_outer_explicit_buckets_go_to_what_is_known_of_them(
    bounds: list[float], values: list[float]
) -> None:
    counts = np.ones((1, len(values)), np.int64)
    assert described(sketches.of_explicit(bounds, counts)) == [plain(values)]


def test_without_bounds_there_is_no_sketch() -> None:
    assert described(sketches.of_explicit([], np.array([[3], [4]]))) == [plain([])] * 2


BOUNDS = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=6, unique=True).map(sorted)


@settings(deadline=None)
@given(BOUNDS, st.data())
def test_the_sketch_of_a_sum_of_explicit_histograms_is_the_sum_of_their_sketches(
    bounds: list[float], data: st.DataObject
) -> None:
    row = st.lists(st.integers(0, 9), min_size=len(bounds) + 1, max_size=len(bounds) + 1)
    first, second = (np.array(data.draw(st.lists(row, min_size=3, max_size=3)), np.int64) for _ in "ab")
    sketch = sketches.of_explicit(bounds, first)

    total = sketches.of_explicit(bounds, first + second)

    assert described(sketches.add(sketch, sketches.of_explicit(bounds, second))) == described(total)
    assert described(sketches.subtract(total, sketch)[0]) == described(sketches.of_explicit(bounds, second))
    assert sketches.counts(total).tolist() == (first + second).sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("bounds", "count"),
    [([2.0, 1.0], 1), ([1.0, 1.0], 1), ([1.0, math.inf], 1), ([1.0, math.nan], 1), ([1.0, 2.0], -1)],
)
def test_an_explicit_histogram_that_is_none_is_refused(bounds: list[float], count: int) -> None:
    with pytest.raises(ValueError, match="bounds"):
        sketches.of_explicit(bounds, np.full((1, 3), count))


SENT = st.tuples(
    st.integers(sketches.MIN_SCALE, sketches.MAX_SENT_SCALE),
    st.integers(0, 9),
    st.integers(-(2**31), 2**31 - 1) | st.integers(-100, 100),
    st.lists(st.integers(0, 3), max_size=40),
)


def of_exponential(rows: Sequence[tuple[int, int, int, list[int]]]) -> Sketches:
    return sketches.of_exponential(
        np.array([scale for scale, _, _, _ in rows], np.int64),
        zeros=np.array([zeros for _, zeros, _, _ in rows], np.int64),
        offset=np.array([offset for _, _, offset, _ in rows], np.int32),
        ends=np.cumsum([len(counts) for _, _, _, counts in rows], dtype=np.int64),
        counts=np.array([count for _, _, _, counts in rows for count in counts], np.int64),
    )


@settings(deadline=None)
@given(st.lists(SENT, max_size=6))
def test_finer_exponential_histograms_are_brought_to_our_scale_exactly(
    rows: list[tuple[int, int, int, list[int]]],
) -> None:
    expected = []
    for sent, zeros, offset, counts in rows:
        scale = min(sent, MAX_SCALE)
        least, most = bucket(SMALLEST, scale), bucket(LARGEST, scale)
        buckets: Counter[int] = Counter()
        for position, count in enumerate(counts):
            buckets[min(max((offset + position) >> (sent - scale), least), most)] += count
        expected.append((scale if any(counts) else MAX_SCALE, zeros, dict(+buckets)))

    assert described(of_exponential(rows)) == expected


def test_an_exponential_histogram_is_the_sketch_of_what_it_counted() -> None:
    """At scale 1 the bounds are powers of √2: (√2, 2] is bucket 1."""
    sent = of_exponential([(1, 0, -2, [0, 1, 0, 3])])

    assert described(sent) == [plain([0.75, 1.5, 1.6, 2.0], scale=1)]


@pytest.mark.parametrize("sent", [(21, 0, 0, [1]), (-11, 0, 0, [1]), (3, -1, 0, [1]), (3, 0, 0, [-1])])
def test_an_exponential_histogram_that_is_none_is_refused(sent: tuple[int, int, int, list[int]]) -> None:
    with pytest.raises(ValueError, match=r"scale|negative"):
        of_exponential([(3, 0, 0, [1]), sent])


SHAPES = {
    "lognormal": lambda random: np.exp(random.normal(5, 1, 5000)),
    "uniform": lambda random: random.uniform(20, 2000, 5000),
    "constant": lambda random: np.full(500, 137.0),
    "two humps": lambda random: np.append(random.normal(40, 3, 3000), random.normal(900, 50, 2000)),
    "few": lambda random: random.uniform(1, 1000, 3),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_quantile_is_within_its_bound_of_the_exact_one(shape: str) -> None:
    values = SHAPES[shape](np.random.default_rng(7))
    q = [0.0, 0.01, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1.0]

    found = sketches.quantiles(one(*values), q)

    assert found.shape == (1, len(q))
    np.testing.assert_allclose(found[0], np.quantile(values, q, method="inverted_cdf"), rtol=WITHIN)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.lists(st.just(0.0) | st.floats(1e-6, 1e6), max_size=9), st.integers(-2, 4)), max_size=5
    )
)
def test_a_quantile_is_that_of_the_rank_in_each_row(rows: list[tuple[list[float], int]]) -> None:
    hundredths = [0, 7, 50, 95, 100]

    found = sketches.quantiles(sketched(rows), [part / 100 for part in hundredths])

    for (values, scale), row in zip(rows, found.tolist(), strict=True):
        for part, value in zip(hundredths, row, strict=True):
            if not values:
                assert math.isnan(value)
                continue
            exact = sorted(values)[max(-(-part * len(values) // 100), 1) - 1]
            assert value == pytest.approx(exact, rel=2 ** (2.0 ** -(scale + 1)) - 1 + 1e-9, abs=0)


def test_the_rank_is_not_mistaken_for_the_next_by_rounding() -> None:
    values = np.arange(1.0, 101.0)
    assert 0.07 * 100 > 7
    assert sketches.quantiles(one(*values), [0.07])[0, 0] == pytest.approx(7, rel=WITHIN)


@settings(deadline=None)
@given(ROWS)
def test_the_share_above_a_bound_of_buckets_is_exact(rows: list[tuple[list[float], int]]) -> None:
    found = sketches.above(sketched([(values, MAX_SCALE) for values, _ in rows]), 64.0)

    for (values, _), share in zip(rows, found.tolist(), strict=True):
        if not values:
            assert math.isnan(share)
        else:
            assert share == pytest.approx(sum(value > 64 for value in values) / len(values))


def test_a_bucket_that_the_threshold_cuts_is_shared() -> None:
    assert sketches.above(one(100.0, 0.0), 2 ** (6.625 + 1 / 32)).tolist() == [pytest.approx(0.25)]


@settings(deadline=None)
@given(st.lists(st.just(0.0) | st.floats(1e-3, 1e6), min_size=1, max_size=9), st.integers(-20, 20))
def test_a_change_of_unit_by_a_power_of_two_is_exact(values: list[float], power: int) -> None:
    factor = 2.0**power
    assert described(sketches.rescale(one(*values), factor)) == [plain([value * factor for value in values])]


@settings(deadline=None)
@given(st.floats(1e-3, 1e6), st.sampled_from([1e-6, 1e-3, 0.01, 60.0, 1000.0, 3.6e6]))
def test_a_change_of_unit_is_off_by_a_bucket_at_most(value: float, factor: float) -> None:
    found = sketches.rescale(one(value), factor)
    assert abs(int(found.index[0]) - bucket(value * factor, MAX_SCALE)) <= 1


def test_a_change_of_unit_keeps_coarse_sketches_and_what_leaves_all_numbers() -> None:
    rows = [plain([3.0, 0.0], scale=-3), plain([LARGEST, LARGEST / 2]), plain([SMALLEST])]

    bigger = described(sketches.rescale(build(rows), 1e300))

    assert bigger[0] == plain([16e300, 0.0], scale=-3)  # the middle of (1, 256] is 16
    assert bigger[1] == (MAX_SCALE, 0, {16383: 2})
    assert sketches.rescale(build(rows), 1e-300).index.tolist()[-1] == -17185


@settings(deadline=None)
@given(ROWS)
@example([([], 4)] * 300 + [([0.0, 5.0], 4)])
@example([([1.0], 4), ([1.0], 4)])
def test_what_was_encoded_is_decoded_exactly(rows: list[tuple[list[float], int]]) -> None:
    s = sketched(rows)
    assert described(sketches.decode(sketches.encode(s), len(s))) == described(s)


def test_rows_without_a_sketch_take_no_bytes() -> None:
    many = sketches.of_values(np.array([3.0]), rows=np.array([70_000]), n=100_000)

    assert len(sketches.encode(sketches.none(100_000))) < 20
    assert len(sketches.encode(many)) < 30
    assert described(sketches.take(sketches.decode(sketches.encode(many), 100_000), np.array([70_000]))) == [
        plain([3.0])
    ]


@settings(deadline=None)
@given(ROWS.filter(bool), st.data())
def test_bytes_that_were_spoilt_are_refused_or_are_sketches(
    rows: list[tuple[list[float], int]], data: st.DataObject
) -> None:
    content = bytearray(sketches.encode(sketched(rows)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    spoilt = bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        found = sketches.decode(spoilt, len(rows))
    except CorruptSketches:
        return
    assert described(sketches.decode(sketches.encode(found), len(rows))) == described(found)
    assert (sketches.quantiles(found, [0.5]) >= 0).sum() == (sketches.counts(found) > 0).sum()


@settings(deadline=None)
@given(ROWS.filter(bool))
def test_bytes_that_end_early_or_late_or_are_of_more_rows_are_refused(
    rows: list[tuple[list[float], int]],
) -> None:
    s = sketched([*rows, ([1.0], MAX_SCALE)])
    content = sketches.encode(s)

    for spoilt in [*(content[:end] for end in range(len(content))), content + b"\0"]:
        with pytest.raises(CorruptSketches):
            sketches.decode(spoilt, len(s))
    with pytest.raises(CorruptSketches):
        sketches.decode(content, len(s) - 1)


@pytest.mark.parametrize("form", range(16))
def test_a_promise_of_billions_of_sketches_or_buckets_is_refused_at_once(form: int) -> None:
    same = bytes([form]) + b"\x00\x7f" * 8
    for size in (1, 2**32 - 1):
        with pytest.raises(CorruptSketches):
            sketches.decode(b"\x01" + size.to_bytes(4, "little") + same * 6, 1)


def test_a_promise_of_billions_of_buckets_is_refused_at_once() -> None:
    rows = 100_000
    columns = (np.full(rows, value) for value in (1, MAX_SCALE, 0, 1 << 16, 1, 1))
    content = b"\x01" + rows.to_bytes(4, "little") + b"".join(packing.pack(column) for column in columns)

    assert len(content) < 40
    with pytest.raises(CorruptSketches):
        sketches.decode(content, rows)


@pytest.mark.parametrize(
    "row",
    [
        (MAX_SCALE + 1, 0, {1: 1}),
        (sketches.MIN_SCALE - 1, 0, {0: 1}),
        (MAX_SCALE, 0, {16384: 1}),
        (MAX_SCALE, 0, {-17186: 1}),
        (0, 0, {1024: 1}),
        (MAX_SCALE, -1, {1: 1}),
        (MAX_SCALE, 0, {1: 0}),
        (MAX_SCALE, 0, {1: 2**62, 2: 2**62}),
        (3, 1, {}),
    ],
)
def test_what_no_sketch_can_be_is_refused(row: Plain) -> None:
    with pytest.raises(CorruptSketches):
        sketches.decode(sketches.encode(build([row])), 1)


def test_buckets_out_of_order_are_refused() -> None:
    s = build([(MAX_SCALE, 0, {1: 1, 2: 1})])
    s.index[:] = [2, 1]
    with pytest.raises(CorruptSketches):
        sketches.decode(sketches.encode(s), 1)

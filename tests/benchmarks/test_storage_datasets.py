from collections import Counter

import msgspec

from benchmarks import datasets


def test_five_points_a_day_are_five_minutes_of_one_day_in_order() -> None:
    one = datasets.five_points_a_day()
    lines = [msgspec.json.decode(line) for body in one.bodies() for line in body.splitlines()]
    series = Counter((line["account"], line["labels"]["article"]) for line in lines)
    assert set(series.values()) == {datasets.SPARSE_POINTS}
    assert len(series) == datasets.SPARSE_ACCOUNTS * datasets.SPARSE_SERIES
    assert len({(line["account"], line["labels"]["article"], line["at"]) for line in lines}) == len(lines)
    times = [line["at"] for line in lines]
    assert times == sorted(times)
    assert {at[:10] for at in times} == {f"{one.day:%F}"}

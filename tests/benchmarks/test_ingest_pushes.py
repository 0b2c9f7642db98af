import numpy as np

from benchmarks import decoding, fleet, pushes
from benchmarks.pushes import POINTS, Template
from benchmarks.sending import Reply


def _body(*, scale: float = 1) -> tuple[decoding.Walked, pushes.Values]:
    template = Template(["fleet-000", "fleet-001", "fleet-002", "fleet-003"])
    body, values = template.body("pod-0007", np.random.default_rng(1), at=1_790_000_010.5, scale=scale)
    return decoding.walk(body), values


def test_no_series_of_an_account_is_sent_twice() -> None:
    series = {(one.metric, frozenset(one.labels.items())) for one in fleet.series()}
    assert len(series) == fleet.SERIES


def test_a_push_says_what_its_values_are_in_their_order() -> None:
    found, values = _body()
    is_histogram = [metric.endswith(".latency") for metric in found.metric]
    sums = [value for value, is_other in zip(found.value, is_histogram, strict=True) if not is_other]
    counts = [count for count, is_one in zip(found.count, is_histogram, strict=True) if is_one]
    assert sums == values.sums.tolist()
    assert counts == values.counts.tolist()
    assert len(sums) + len(counts) == POINTS


def test_a_push_is_of_its_pod_its_time_and_its_accounts_alone() -> None:
    found, _ = _body()
    assert set(found.time) == {1_790_000_010_500_000_000}
    assert {one["service.instance.id"] for one in found.attributes} == {"pod-0007"}
    accounts = [one["vitals.account"] for one in found.attributes]
    assert accounts == [account for account in sorted(set(accounts)) for _ in range(fleet.SERIES)]


def test_a_push_of_a_longer_time_holds_so_much_more() -> None:
    (_, usual), (_, longer) = _body(), _body(scale=100)
    assert 90 < longer.sums.sum() / usual.sums.sum() < 110


def test_a_header_is_found_whatever_its_case() -> None:
    reply = Reply(503, b"http/1.1 503 busy\r\nretry-after: 30\r\n", b"")
    assert reply.header("Retry-After") == "30"
    assert reply.header("Content-Length") == ""

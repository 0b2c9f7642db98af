"""Killed at random moments, also within commits: what was acknowledged is there, and nothing twice."""

import random
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from tests.faults.installation import Installation, installation
from tests.faults.numbered import SIZE, Numbers, require_same, stored
from tests.faults.senders import Senders

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
LONG, _MEANWHILE = 100_000 // SIZE, 4


@pytest.fixture(scope="module")
def running(room: Path) -> Iterator[Installation]:
    """One with all that folds, for all tests here: each has accounts of its own."""
    with installation(room / "kills") as made:
        made.start_workers()
        yield made


@pytest.fixture
def slow_commits(running: Installation) -> Iterator[None]:
    """Every commit pauses between its record and the flush of it: most kills fall there, and others queue."""
    configure(running, "SET commit_delay = 30000", "SET commit_siblings = 0")
    yield
    configure(running, "RESET commit_delay", "RESET commit_siblings")


def configure(running: Installation, *changes: str) -> None:
    for change in changes:
        running.fetch(f"ALTER SYSTEM {change}")
    running.fetch("SELECT pg_reload_conf()")


Strike = Callable[[int], AbstractContextManager[None]]


def send_during(running: Installation, strike: Strike, *, requests: int, times: int) -> Senders:
    """Send so many requests, strike so many times while some are under way, and look for all points.

    Only then are all sent once more: before, that would bring back what was lost.
    """
    accounts = [running.account(), running.account()]
    numbers, urls = Numbers(accounts), [api.url for api in running.apis]
    moments, share = random.Random(times), requests // times
    with Senders(numbers, urls=urls, key=running.sender_key(), requests=requests) as senders:
        for time in range(times):
            senders.allow(share - _MEANWHILE, until=moments.randrange(share // 2))
            with strike(time):
                senders.allow(_MEANWHILE)
    assert senders.acknowledged == set(range(requests))
    assert [reply for reply in senders.heard if reply and not (reply.status == 200 or reply.is_refusal)] == []
    running.wait_until_folded()
    require_same(stored(running, accounts), numbers.cells(range(requests)))
    senders.repeat()
    running.wait_until_folded()
    require_same(stored(running, accounts), numbers.cells(range(requests)))
    return senders


def of_size(times: int) -> pytest.MarkDecorator:
    """2,000 points and two strikes, or 100,000 points and so many."""
    long = pytest.param(LONG, times, marks=pytest.mark.faults)
    return pytest.mark.parametrize(("requests", "times"), [(20, 2), long], ids=["short", "long"])


@of_size(times=20)
def test_an_api_killed_at_random_moments_loses_and_doubles_nothing(
    running: Installation, slow_commits: None, requests: int, times: int
) -> None:
    @contextmanager
    def killed(time: int) -> Iterator[None]:
        api = running.apis[time % len(running.apis)]
        api.kill()
        yield
        if time % 4 == 3:
            running.worker.kill()
            running.worker.start()
        api.start()
        api.wait()

    senders = send_during(running, killed, requests=requests, times=times)
    assert senders.heard[None] > 0  # requests were lost


@of_size(times=10)
def test_a_database_killed_within_commits_loses_and_doubles_nothing(
    running: Installation, slow_commits: None, requests: int, times: int
) -> None:
    @contextmanager
    def killed(time: int) -> Iterator[None]:
        running.kill_postgres()
        yield
        if time % 3 == 2:
            running.worker.kill()
            running.worker.start()
        running.postgres.start()

    before = [api.pid for api in running.apis]
    send_during(running, killed, requests=requests, times=times)
    assert all(api.is_ready() for api in running.apis)
    assert [api.pid for api in running.apis] == before


def test_a_database_that_is_started_again_needs_no_other_start(running: Installation) -> None:
    @contextmanager
    def stopped(_: int) -> Iterator[None]:
        running.postgres.stop()
        yield
        running.postgres.start()

    parts = (*running.apis, running.relay, running.worker)
    before = [part.pid for part in parts]
    send_during(running, stopped, requests=20, times=1)
    assert [(part.pid, part.is_running) for part in parts] == [(pid, True) for pid in before]


def test_a_broker_that_is_killed_and_wiped_refuses_nothing_and_loses_nothing(running: Installation) -> None:
    @contextmanager
    def wiped(_: int) -> Iterator[None]:
        running.wipe_broker()
        yield
        running.broker.start()

    senders = send_during(running, wiped, requests=20, times=1)
    assert {reply.status for reply in senders.heard if reply} == {200}

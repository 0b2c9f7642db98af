"""A disk that fills: what was acknowledged stays, the rest is refused, and it goes on once there is room."""

import sys
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from tests.faults import small_disk
from tests.faults.installation import Installation, installation
from tests.faults.numbered import SIZE, Numbers, require_same, stored
from tests.faults.senders import Senders
from tests.faults.small_disk import SmallDisk

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mounts, and looks into /proc")
_BYTES = 320 << 20
_UNUSED_KEY = """
INSERT INTO ingest_batches (key, scope, body_hash, reply, received_at)
VALUES (uuid_send(gen_random_uuid()), '', '', '{}', now())
"""
_CHECK = """
SELECT bt_index_check(oid, true) FROM pg_class
WHERE relkind = 'i' AND relnamespace = 'public'::regnamespace
"""


@pytest.fixture
def disk(room: Path, tmp_path: Path) -> Iterator[SmallDisk]:
    if reason := small_disk.cannot_mount():
        pytest.skip(f"no file system of its own: {reason}")
    with small_disk.small_disk(room / tmp_path.name, size=_BYTES) as made:
        yield made


@pytest.fixture
def running(disk: SmallDisk, room: Path, tmp_path: Path) -> Iterator[Installation]:
    with installation(room / f"{tmp_path.name}-parts", apis=1, postgres=disk.postgres) as made:
        made.start_workers()
        yield made


@pytest.mark.parametrize(
    "requests", [40, pytest.param(20_000 // SIZE, marks=pytest.mark.faults)], ids=["short", "long"]
)
def test_a_full_disk_is_refused_and_loses_nothing_and_ends_when_there_is_room(
    running: Installation, disk: SmallDisk, requests: int
) -> None:
    accounts, [api] = [running.account()], running.apis
    numbers, before = Numbers(accounts), api.pid
    with Senders(numbers, urls=[api.url], key=running.sender_key(), requests=requests) as senders:
        senders.allow(requests // 4)
        senders.wait_for_all()

        disk.fill()
        senders.allow(requests // 2)
        fill_the_pages_that_are_left(running)
        senders.wait_for_refusals(20)
        disk.make_room()
        senders.wait_for_all()

        disk.fill()
        ask_for_more_log(running)
        senders.allow(requests)
        senders.wait_for_refusals(20)
        disk.make_room()
    assert senders.acknowledged == set(range(requests))
    assert [reply for reply in senders.heard if reply and not (reply.status == 200 or reply.is_refusal)] == []
    assert (api.pid, api.is_alive(), api.is_ready()) == (before, True, True)
    running.wait_until_folded()
    require_same(stored(running, accounts), numbers.cells(range(requests)))
    running.fetch("CREATE EXTENSION amcheck")
    assert len(running.fetch(_CHECK)) > 0


def fill_the_pages_that_are_left(running: Installation) -> None:
    """Until the table of the requests' keys cannot grow; these keys are of none."""
    until_it_fails(running, _UNUSED_KEY)


def ask_for_more_log(running: Installation) -> None:
    """The server itself ends where it has no place for the log that it needs next."""
    until_it_fails(running, "SELECT pg_logical_emit_message(false, '', 'x'), pg_switch_wal()")


def until_it_fails(running: Installation, statement: str) -> None:
    try:
        while True:
            running.fetch(statement)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return

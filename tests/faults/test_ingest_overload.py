"""Ten times more than can be written: what is taken is there, the rest is told to come again.

Memory stays flat meanwhile, and nobody waits for ever.
"""

import asyncio
import json
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import text

from domain.core.db import Database
from domain.telemetry import batches
from domain.telemetry.batches import Entry
from domain.telemetry.flusher import Flusher
from domain.telemetry.outages import Unavailable
from tests import make
from tests.faults.installation import Installation, installation
from tests.faults.numbered import Cell, Numbers, logged, require_same
from tests.faults.senders import Line, Reply

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
WAITING = 16 << 20
_THREADS, _PADDING = 128, 2_000
_GROWTH = 48 << 20


@pytest.fixture(scope="module")
def running(room: Path) -> Iterator[Installation]:
    """A database and one API process; nobody folds, so that all that was taken lies in the log."""
    with installation(room / "overload", apis=1, VITALS_INGEST_WAITING=str(WAITING)) as made:
        yield made


@contextmanager
def slow_writes(running: Installation) -> Iterator[None]:
    """Each group of requests takes two seconds to be written."""
    running.fetch(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM pg_sleep(2); RETURN NULL; END $$"
    )
    running.fetch(
        "CREATE TRIGGER slowly BEFORE INSERT ON ingest_batches FOR EACH STATEMENT EXECUTE FUNCTION slowly()"
    )
    try:
        yield
    finally:
        running.fetch("DROP FUNCTION slowly CASCADE")


class Flood:
    """Senders that never wait: each sends another request as soon as it has an answer.

    Request n has the first point of the number n, and a lot that is the same in all of them.
    """

    def __init__(self, running: Installation) -> None:
        [self._api], self._key = running.apis, running.sender_key()
        self.account, padded = running.account(), running.account()
        self._numbers = Numbers([self.account])
        _, _, at = self._numbers.cell(0)
        lines = (_line((padded, f"bank-{issuer}", at), 1.0) for issuer in range(_PADDING))
        self._padding = b"\n" + b"\n".join(lines)
        self._next, self._over = count(1), False
        self.replies: dict[int, Reply | None] = {}
        self.failures: list[BaseException] = []
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_THREADS)]

    def __enter__(self) -> "Flood":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over = True
        for one in self._threads:
            one.join()

    @property
    def taken(self) -> list[int]:
        return [number for number, reply in self.replies.copy().items() if reply and reply.status == 200]

    def cells(self, numbers: Iterable[int]) -> dict[Cell, float]:
        return {self._numbers.cell(number): number + 1.0 for number in numbers}

    def send_all(self, numbers: Iterable[int]) -> list[Reply | None]:
        """Send these requests, one after the other; the answer to each."""
        line = Line(self._key, path="/v1/points", media="application/x-ndjson")
        try:
            return [self._send(line, number) for number in numbers]
        finally:
            line.close()

    def _send(self, line: Line, number: int) -> Reply | None:
        body = _line(self._numbers.cell(number), number + 1.0) + self._padding
        self.replies[number] = line.post(self._api.url, body, None)
        return self.replies[number]

    def _work(self) -> None:
        try:
            self.send_all(takewhile(lambda _: not self._over, self._next))
        except BaseException as failure:
            self.failures.append(failure)
            raise


def _line(cell: Cell, value: float) -> bytes:
    account, issuer, at = cell
    labels = {"outcome": "approved", "issuer": issuer}
    minute = datetime.fromtimestamp(at, UTC).isoformat()
    point = {"account": account, "metric": "payments.count", "at": minute, "value": value, "labels": labels}
    return json.dumps(point).encode()


@pytest.mark.parametrize("lasts_s", [5, pytest.param(60, marks=pytest.mark.faults)], ids=["short", "long"])
def test_ten_times_too_much_is_shed_in_flat_memory_and_what_was_taken_is_there(
    running: Installation, lasts_s: int
) -> None:
    [api], flood, memory = running.apis, Flood(running), []
    assert flood.send_all([0]) == [(200, None)]
    with slow_writes(running), flood:
        begun = time.monotonic()
        while time.monotonic() - begun < lasts_s or len(flood.replies) < 10 * len(flood.taken):
            memory.append(api.memory())
            time.sleep(0.05)
    assert flood.failures == []
    assert [reply for reply in set(flood.replies.values()) if not is_taken_or_refused(reply)] == []
    third = len(memory) // 3
    assert max(memory[-third:]) - max(memory[:third]) < _GROWTH

    # Nobody waits any more: the next are taken at once, and nothing was forgotten.
    shed = sorted(flood.replies.keys() - set(flood.taken))[:20]
    assert flood.send_all(shed) == [(200, None)] * 20
    found, sent = logged(running, [flood.account]), flood.cells(flood.replies)
    refused_but_written = {cell: sent[cell] for cell in found}  # at most once
    require_same(found, flood.cells(flood.taken) | refused_but_written)


def is_taken_or_refused(reply: Reply | None) -> bool:
    return reply is not None and (reply.status == 200 or reply.is_refusal)


@pytest.mark.faults
def test_while_nothing_can_be_written_everyone_is_told_and_afterwards_all_is_taken(
    running: Installation,
) -> None:
    flood, numbers = Flood(running), range(1, 101)
    assert flood.send_all([0]) == [(200, None)]
    with locked(running), ThreadPoolExecutor(len(numbers)) as senders:
        told = list(senders.map(lambda number: flood.send_all([number])[0], numbers))
    assert {reply.status for reply in told if reply} == {503}
    assert all(reply and reply.is_refusal for reply in told)
    assert flood.send_all(numbers) == [(200, None)] * 100
    require_same(logged(running, [flood.account]), flood.cells([0, *numbers]))


@contextmanager
def locked(running: Installation) -> Iterator[None]:
    """Another transaction holds the table of keys and does not end."""
    with asyncio.Runner() as runner:
        connection = runner.run(asyncpg.connect(running.postgres.url()))
        runner.run(connection.execute("BEGIN; LOCK TABLE ingest_batches IN SHARE MODE"))
        yield
        runner.run(connection.close())


async def test_a_write_that_does_not_end_is_given_up_and_told_and_has_no_effect(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batches, "_ATTEMPT_S", 0.2)
    entry = Entry(b"key", "operator", b"body", "{}", make.NOON, False, 1, b"columns")
    flusher = Flusher(db)
    flusher.start()
    async with worker_db.engine.connect() as other:
        await other.execute(text("LOCK TABLE ingest_batches IN SHARE MODE"))
        with pytest.raises(Unavailable):
            await flusher.append(entry)
    assert (await flusher.append(entry)).is_new
    await flusher.stop()

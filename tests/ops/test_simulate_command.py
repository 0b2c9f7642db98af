"""`vitals simulate`: a world's history and its live minutes, through the real ingest."""

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from domain.access.models import PrincipalKind
from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import columns
from domain.telemetry.models import IngestLog
from ops import simulate as simulation
from ops.replaying import sender
from ops.replaying.pace import Progress
from ops.replaying.sender import Sender
from ops.replaying.simulated import State, World, minute_of, showcase
from ops.simulation import specification
from ops.simulation.stream import simulate
from tests import make
from tests.ops.conftest import Vitals

NOW = minute_of(datetime.now(UTC)) - timedelta(days=2)
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
STATE = State(profile="small", seed=3, began_at=NOW, days=0.0)


@pytest.fixture
async def key(db: Database) -> str:
    return await make.key(db, kind=PrincipalKind.INGEST)


async def logged(worker_db: Database) -> tuple[list[datetime], list[bool]]:
    """The minutes of all points in the order in which they were sent, and which requests were backfill."""
    async with worker_db.read() as session:
        rows = (await session.scalars(select(IngestLog).order_by(IngestLog.id))).all()
    minutes = [second for row in rows for second in columns.decode(row.columns).at.tolist()]
    return [datetime.fromtimestamp(one, UTC) for one in minutes], [row.backfill for row in rows]


async def test_history_is_sent_as_backfill_after_its_catalogue_and_labels_are_written(
    vitals: Vitals, api: str, key: str, db: Database, worker_db: Database, tmp_path: Path
) -> None:
    labels, state = tmp_path / "labels.jsonl", tmp_path / "state.json"
    options = ("--seed", 3, "--profile", "small", "--days", 0.1, "--labels", labels, "--state", state)

    result = await vitals("simulate", *options, "--url", api, "--key", key)

    assert result.exit_code == 0, result.stderr
    sent = State.load(state)
    assert sent is not None
    minutes, backfills = await logged(worker_db)
    start = (sent.began_at - timedelta(days=0.1)).replace(minute=0)
    made = simulate(specification.load("small"), 3, start=start, days=(sent.began_at - start) / DAY)
    assert minutes == [at for at, points in made for _ in points]
    assert set(backfills) == {True}
    assert sent.sent_until == sent.began_at
    async with db.read("operator") as session:
        assert await session.scalar(select(func.count()).select_from(Account)) == 4
    incidents = [json.loads(line) for line in labels.read_text().splitlines()]
    assert incidents
    assert set(incidents[0]) == {"kind", "where", "start", "end", "effect", "outcome", "code"}


async def test_a_history_that_was_sent_is_not_sent_again(
    vitals: Vitals, api: str, key: str, worker_db: Database, tmp_path: Path
) -> None:
    state = tmp_path / "state.json"
    msgspec.structs.replace(STATE, sent_until=NOW).save(state)

    result = await vitals("simulate", "--state", state, "--url", api, "--key", key)

    assert result.exit_code == 0, result.stderr
    assert (await logged(worker_db))[0] == []


async def test_a_simulation_without_seed_or_memory_is_refused(vitals: Vitals, tmp_path: Path) -> None:
    result = await vitals("simulate", "--state", tmp_path / "none.json", "--key", "k")

    assert result.exit_code == 2
    assert "Give --seed" in result.stderr


async def test_a_memory_that_is_not_one_is_refused(vitals: Vitals, tmp_path: Path) -> None:
    file = tmp_path / "state.json"
    file.write_text("{}")

    result = await vitals("simulate", "--state", file, "--key", "k")

    assert result.exit_code == 1
    assert "is not what a simulation remembers" in result.stderr


class Enough(Exception):
    """The test has seen what it wanted."""


class FakeTime:
    """Passes by sleeping alone, and ends after so many sleeps."""

    def __init__(self, now: datetime, *, sleeps: int) -> None:
        self.at, self.slept, self.left = now, list[float](), sleeps

    def now(self) -> datetime:
        return self.at

    def sleep(self, seconds: float) -> None:
        if not self.left:
            raise Enough
        self.left -= 1
        self.slept.append(seconds)
        self.at += timedelta(seconds=seconds)


@pytest.fixture
def live(api: str, key: str, db: Database, tmp_path: Path) -> Callable[[State, FakeTime], None]:
    """Runs a live simulation until its time ends it; its memory is `state.json`."""

    def run(state: State, time: FakeTime) -> None:
        with sender.connect(api, key) as client, pytest.raises(Enough):
            simulation.go_live(
                state,
                Sender(client, say=print),
                Progress("points"),
                file=tmp_path / "state.json",
                speed=float("inf"),
                now=time.now,
                sleep=time.sleep,
            )

    return run


@pytest.fixture
async def world(db: Database) -> None:
    async with db.transaction("operator") as session:
        await simulation.apply_catalogue(session, specification.load("small"), at=NOW)


@pytest.mark.usefixtures("world")
async def test_live_minutes_are_sent_when_they_are_over(
    live: Callable[[State, FakeTime], None], worker_db: Database, tmp_path: Path
) -> None:
    time = FakeTime(NOW + timedelta(seconds=20), sleeps=3)

    await asyncio.to_thread(live, msgspec.structs.replace(STATE, sent_until=NOW), time)

    minutes, backfills = await logged(worker_db)
    assert time.slept == [40.0, 60.0, 60.0]
    assert sorted(set(minutes)) == [NOW, NOW + MINUTE, NOW + 2 * MINUTE]
    assert backfills == [False] * 3
    kept = State.load(tmp_path / "state.json")
    assert kept is not None
    assert kept.sent_until == NOW + 2 * MINUTE


@pytest.mark.usefixtures("world")
async def test_what_was_missed_is_sent_as_live_traffic(
    live: Callable[[State, FakeTime], None], worker_db: Database
) -> None:
    missed = NOW - timedelta(minutes=5)

    await asyncio.to_thread(live, msgspec.structs.replace(STATE, sent_until=missed), FakeTime(NOW, sleeps=0))

    minutes, backfills = await logged(worker_db)
    assert sorted(set(minutes)) == [missed + index * MINUTE for index in range(5)]
    assert backfills == [False]


def test_of_a_long_gap_all_but_the_last_day_is_history_by_the_hour() -> None:
    stopped = NOW.replace(minute=30)
    world = World(msgspec.structs.replace(STATE, sent_until=stopped))
    now = stopped + 3 * HOUR + DAY

    parcels = list(world.gap(now))

    written = [json.loads(line)["at"] for one in parcels for line in one.body.splitlines()]
    minutes = [stopped + index * MINUTE for index in range(30)]
    hours = [stopped + timedelta(minutes=30) + index * HOUR for index in range(3)]
    last = [hours[2] + index * MINUTE for index in range(30)]
    assert sorted(set(written)) == [f"{at:%FT%TZ}" for at in sorted({*minutes, *hours[:2], *last})]
    assert {one.params["backfill"] for one in parcels} == {"true"}
    assert world.live_start(now) == stopped + 3 * HOUR


def test_a_showcase_has_an_incident_going_on_as_it_begins() -> None:
    first, second, *_ = showcase(NOW)

    assert first.start == NOW - timedelta(minutes=20)
    assert first.end > NOW
    assert second.start == first.start + 3 * HOUR


def test_the_catalogue_of_every_world_is_one_that_can_be_applied() -> None:
    for profile in ("small", "default"):
        found = simulation.catalogue(specification.load(profile))
        assert len(found.accounts) > 2

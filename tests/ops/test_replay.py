"""`vitals replay`: files of every shape, through the real ingest."""

import asyncio
import gzip
import json
import os
import signal
import sys
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pytest
from sqlalchemy import func, select

from domain.access.models import PrincipalKind
from domain.core.db import Database
from domain.statuspages.models import StatusSnapshot
from domain.telemetry import blocks, columns
from domain.telemetry.fold import fold
from domain.telemetry.models import IngestLog, Minute, Series
from ops import credentials
from ops.credentials import Credentials
from ops.replaying import files, parcels
from ops.replaying.delivery import deliver
from ops.replaying.files import Shape
from ops.replaying.pace import Pace, Progress
from ops.replaying.parcels import Parcel, Written
from ops.replaying.sender import Refused, Sender, Unreachable
from ops.replaying.times import Times, instant
from tests import make
from tests.ops.conftest import Vitals

COUNTS = """\
time,status,f0_
00h 00,approved,9
00h 00,denied,6
00h 01,backend_reversed,2
00h 01,approved,7
"""
YESTERDAY = datetime.now(UTC).date() - timedelta(days=1)
MIDNIGHT = datetime(YESTERDAY.year, YESTERDAY.month, YESTERDAY.day, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

Points = list[tuple[datetime, dict[str, str], float, int]]


@pytest.fixture
async def key(db: Database) -> str:
    await make.account(db, external_id="shop")
    await make.partner(db, code="acquirer")
    return await make.key(db, kind=PrincipalKind.INGEST)


@pytest.fixture
def to(api: str, key: str) -> tuple[str, ...]:
    return ("--url", api, "--key", key, "--speed", "max")


def written(place: Path, text: str, name: str = "file.csv") -> Path:
    file = place / name
    file.write_text(text)
    return file


async def taken(worker_db: Database) -> Points:
    """Every minute that was sent: when, the labels of its series, its value and count."""
    await fold(worker_db, datetime.now(UTC))
    async with worker_db.read() as session:
        labels = {
            (one.account_id, one.number): dict(one.labels) for one in await session.scalars(select(Series))
        }
        rows = await session.scalars(select(Minute))
        found = [
            (row.at, labels[row.account_id, number], value, count)
            for row in rows
            for number, value, count in blocks.rows(row.cells, shard=row.shard)
        ]
    return sorted(found, key=lambda point: (point[0], point[2]))


async def logged(worker_db: Database) -> int:
    async with worker_db.read() as session:
        return await session.scalar(select(func.count()).select_from(IngestLog)) or 0


async def test_counts_by_outcome_become_payments_in_our_words(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    result = await vitals("replay", written(tmp_path, COUNTS), "--account", "shop", *to)

    assert result.exit_code == 0, result.stderr
    assert await taken(worker_db) == [
        (MIDNIGHT, {"outcome": "declined"}, 6.0, 0),
        (MIDNIGHT, {"outcome": "approved"}, 9.0, 0),
        (MIDNIGHT + MINUTE, {"outcome": "reversed", "code": "backend_reversed"}, 2.0, 0),
        (MIDNIGHT + MINUTE, {"outcome": "approved"}, 7.0, 0),
    ]
    assert "4 points sent, 0 refused" in result.stderr


async def test_times_of_day_are_of_the_date_and_zone_that_are_given(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    file = written(tmp_path, "time,status,n\n23:30,approved,1\n")
    options = ("--account", "shop", "--zone", "America/Sao_Paulo", "--date", YESTERDAY - timedelta(days=3))

    result = await vitals("replay", file, *options, *to)

    assert result.exit_code == 0, result.stderr
    assert [at for at, *_ in await taken(worker_db)] == [MIDNIGHT - timedelta(days=2) + timedelta(hours=2.5)]


async def test_as_of_shifts_the_last_line_to_that_time(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    text = "time,status,n\n2020-03-01T10:00:00Z,approved,1\n2020-03-01T10:05:00Z,approved,2\n"
    as_of = MIDNIGHT + timedelta(hours=8, seconds=30)

    result = await vitals(
        "replay", written(tmp_path, text), "--account", "shop", "--as-of", as_of.isoformat(), *to
    )

    assert result.exit_code == 0, result.stderr
    last = MIDNIGHT + timedelta(hours=8)
    assert [at for at, *_ in await taken(worker_db)] == [last - timedelta(minutes=5), last]


async def test_an_unknown_status_names_line_and_value_and_nothing_is_sent(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    file = written(tmp_path, COUNTS + "00h 02,charged,3\n")

    refused = await vitals("replay", file, "--account", "shop", *to)

    assert refused.exit_code == 1
    assert "line 6: status: 'charged' is not an outcome" in refused.stderr
    assert await logged(worker_db) == 0

    mapped = await vitals("replay", file, "--account", "shop", "--outcome", "charged=approved", *to)

    assert mapped.exit_code == 0, mapped.stderr
    assert (await taken(worker_db))[-1] == (MIDNIGHT + 2 * MINUTE, {"outcome": "approved"}, 3.0, 0)


async def test_lines_of_one_minute_and_series_are_summed(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    text = "time,status,n\n00:00:10,denied,1\n00:00:40,denied,2\n00:00:50,refused,4\n"

    result = await vitals(
        "replay", written(tmp_path, text), "--account", "shop", "--outcome", "refused=declined", *to
    )

    assert result.exit_code == 0, result.stderr
    assert await taken(worker_db) == [(MIDNIGHT, {"outcome": "declined"}, 7.0, 0)]


async def test_any_csv_is_sent_through_a_mapping_of_its_columns(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    text = f"who,when,ms,bank,how\nshop,{YESTERDAY} 00:00,100,a,card\nshop,{YESTERDAY} 00:00,300,a,card\n"
    text += f"shop,{YESTERDAY} 00:01,,a,card\n"
    mapping = ("--time", "when", "--value", "ms", "--metric", "payments.latency", "--account-column", "who")
    labels = ("--label", "issuer=bank", "--label", "method=how", "--constant", "country=BR")

    result = await vitals("replay", written(tmp_path, text), *mapping, *labels, *to)

    assert result.exit_code == 0, result.stderr
    assert "1 lines without a value are left out" in result.stderr
    named = {"issuer": "a", "method": "card", "country": "BR"}
    assert await taken(worker_db) == [(MIDNIGHT, named, 400.0, 2)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("00:00,approved,x", "line 2: n: 'x' is not a number"),
        ("00:00,approved,1.5", "line 2: n: 1.5 is not whole, as payments.count must be"),
        ("25:00,approved,1", "line 2: time: '25:00' is not a time"),
        ("00:00,approved", "line 2: has 2 values, fewer than the header names"),
        ("00:00,approved,-1", "line 2: value must not be negative"),
    ],
)
async def test_a_bad_line_is_named_before_anything_is_sent(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path, line: str, message: str
) -> None:
    file = written(tmp_path, f"time,status,n\n{line}\n00:00,approved,1\n")

    result = await vitals("replay", file, "--account", "shop", *to)

    assert result.exit_code == 1
    assert message in result.stderr
    assert await logged(worker_db) == 0


async def test_a_file_in_any_order_is_sent_in_the_order_of_time(
    vitals: Vitals, api: str, key: str, worker_db: Database, tmp_path: Path
) -> None:
    lines = [f"{minute // 60:02}:{minute % 60:02},approved,1" for minute in range(100)]
    file = written(tmp_path, "\n".join(["time,status,n", *reversed(lines)]))

    result = await vitals(
        "replay", file, "--account", "shop", "--url", api, "--key", key, "--speed", "1000000"
    )

    assert result.exit_code == 0, result.stderr
    async with worker_db.read() as session:
        rows = (await session.scalars(select(IngestLog).order_by(IngestLog.id))).all()
    seconds = [second for row in rows for second in columns.decode(row.columns).at.tolist()]
    assert seconds == [int(MIDNIGHT.timestamp()) + 60 * minute for minute in range(100)]


async def test_an_unknown_account_is_told_with_what_to_do(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    result = await vitals("replay", written(tmp_path, COUNTS), "--account", "nobody", *to)

    assert result.exit_code == 1
    assert "line 2: account is no account that this key can write to" in result.stderr
    assert "vitals catalog apply FILE" in result.stderr
    assert await logged(worker_db) == 0


async def test_a_wrong_key_ends_it_at_once(vitals: Vitals, api: str, key: str, tmp_path: Path) -> None:
    result = await vitals(
        "replay", written(tmp_path, COUNTS), "--account", "shop", "--url", api, "--key", key + "x"
    )

    assert result.exit_code == 1
    assert "the server answers 401" in result.stderr


def summary(incidents: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    part = {"id": "c", "name": "API", "status": "operational", "updated_at": "2023-01-01T00:00:00.5Z"}
    return {
        "page": {"id": "p", "name": "Page"},
        "components": [part],
        "incidents": list(incidents),
        "scheduled_maintenances": [],
    }


def feed(place: Path, *observed: tuple[str, Any]) -> Path:
    lines = [json.dumps({"observed_at": at, "commit": "x", "summary": one}) for at, one in observed]
    file = place / "feed.jsonl.gz"
    file.write_bytes(gzip.compress("\n".join(lines).encode()))
    return file


async def snapshots(worker_db: Database) -> list[tuple[datetime, Any]]:
    rows = select(StatusSnapshot.observed_at, StatusSnapshot.summary).order_by(StatusSnapshot.observed_at)
    async with worker_db.read() as session:
        return [(at, one) for at, one in await session.execute(rows)]


async def test_snapshots_of_a_range_are_sent_once_however_often(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    times = ("2022-12-31T23:59:59Z", "2023-01-01T00:00:00Z", "2023-12-31T23:59:59Z", "2024-01-01T00:00:00Z")
    file = feed(tmp_path, *((at, summary()) for at in times))
    command = ("replay", file, "--partner", "acquirer", "--from", "2023", "--until", "2024", *to)

    results = [await vitals(*command), await vitals(*command)]

    assert [one.exit_code for one in results] == [0, 0], results[0].stderr
    assert "2 snapshots sent, 0 refused" in results[0].stderr
    expected = [datetime(2023, 1, 1, tzinfo=UTC), datetime(2023, 12, 31, 23, 59, 59, tzinfo=UTC)]
    assert await snapshots(worker_db) == [(at, summary()) for at in expected]


async def test_a_shifted_snapshot_has_all_of_its_times_shifted(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    file = feed(tmp_path, ("2023-01-02T00:00:00Z", summary()))

    result = await vitals("replay", file, "--partner", "acquirer", "--as-of", "2024-01-02T00:00:00Z", *to)

    assert result.exit_code == 0, result.stderr
    [(at, found)] = await snapshots(worker_db)
    assert at == datetime(2024, 1, 2, tzinfo=UTC)
    assert found["components"][0]["updated_at"] == "2024-01-01T00:00:00.500000Z"


async def test_a_refused_snapshot_is_told_and_the_next_one_sent(
    vitals: Vitals, to: Sequence[str], worker_db: Database, tmp_path: Path
) -> None:
    file = feed(tmp_path, ("2023-01-02T00:00:00Z", {"page": 1}), ("2023-01-03T00:00:00Z", summary()))

    result = await vitals("replay", file, "--partner", "acquirer", *to)

    assert result.exit_code == 1
    assert "line 1: the server answers 422" in result.stderr
    assert "1 snapshots sent, 1 refused" in result.stderr
    assert [at for at, _ in await snapshots(worker_db)] == [datetime(2023, 1, 3, tzinfo=UTC)]


async def test_snapshots_of_an_unknown_partner_are_not_sent_on(
    vitals: Vitals, to: Sequence[str], tmp_path: Path
) -> None:
    file = feed(tmp_path, ("2023-01-02T00:00:00Z", summary()), ("2023-01-03T00:00:00Z", summary()))

    result = await vitals("replay", file, "--partner", "nobody", *to)

    assert result.exit_code == 1
    assert "0 snapshots sent, 1 refused" in result.stderr
    assert "vitals catalog apply FILE" in result.stderr


async def test_a_day_of_real_payments_arrives_whole(
    vitals: Vitals, to: Sequence[str], worker_db: Database
) -> None:
    data = os.environ.get("VITALS_TEST_DATA")
    if not data:
        pytest.skip("VITALS_TEST_DATA is not set")
    file = Path(data) / "payments" / "cloudwalk" / "transactions_1.csv"

    result = await vitals("replay", file, "--account", "shop", *to)

    assert result.exit_code == 0, result.stderr
    minutes = await taken(worker_db)
    assert (len(minutes), sum(value for _, _, value, _ in minutes)) == (4234, 254670.0)


async def test_an_interrupt_ends_a_replay_with_what_was_sent(api: str, key: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "ops", "replay", str(written(tmp_path, COUNTS)), "--account", "shop"]
    process = await asyncio.create_subprocess_exec(
        *command, "--url", api, "--key", key, stderr=asyncio.subprocess.PIPE
    )
    assert process.stderr is not None
    first = await process.stderr.readline()
    process.send_signal(signal.SIGINT)
    _, told = await process.communicate()

    assert b"2 points sent, 0 refused" in first
    assert process.returncode == 130
    assert told.startswith(b"stopped: ")
    assert b"2 points sent, 0 refused" in told


def test_the_shape_is_told_from_the_first_line(tmp_path: Path) -> None:
    assert files.recognized(written(tmp_path, COUNTS)) is Shape.OUTCOMES
    assert files.recognized(written(tmp_path, "time,today,yesterday\n")) is Shape.COLUMNS
    assert files.recognized(feed(tmp_path, ("2023-01-01T00:00:00Z", {}))) is Shape.STATUSPAGE


async def test_a_file_that_is_not_understood_asks_for_its_columns(vitals: Vitals, tmp_path: Path) -> None:
    file = written(tmp_path, "when,what\n1,2\n")

    result = await vitals("replay", file, "--account", "shop", "--key", "k")

    assert result.exit_code == 2
    assert "Give --time, --value and --metric; the columns are when, what." in result.stderr


async def test_the_key_of_this_machine_is_sent_to_no_other(vitals: Vitals, tmp_path: Path) -> None:
    credentials.save(tmp_path, Credentials("http://127.0.0.1:1/graphql", "a", "secret", [], []))
    file = written(tmp_path, COUNTS)

    result = await vitals("replay", file, "--account", "shop", "--url", "http://vitals.example")

    assert result.exit_code == 2
    assert "is not sent to http://vitals.example" in result.stderr
    assert "secret" not in result.output


@pytest.mark.parametrize(
    ("text", "second"),
    [
        ("14h 30", "2024-03-09T14:30:00-05:00"),
        ("07h", "2024-03-09T07:00:00-05:00"),
        ("7:05:09", "2024-03-09T07:05:09-05:00"),
        ("2024-07-01 10:00", "2024-07-01T10:00:00-04:00"),
        ("2024-07-01T10:00:00Z", "2024-07-01T10:00:00+00:00"),
        ("1709942400", "2024-03-09T00:00:00+00:00"),
        ("1709942400123", "2024-03-09T00:00:00+00:00"),
    ],
)
def test_times_are_read_as_files_write_them(text: str, second: str) -> None:
    times = Times(ZoneInfo("America/New_York"), date=date(2024, 3, 9))

    assert times.second(text) == int(datetime.fromisoformat(second).timestamp())


def test_a_time_that_clocks_skip_is_refused() -> None:
    with pytest.raises(ValueError, match="does not exist in America/New_York"):
        instant("2024-03-10 02:30", ZoneInfo("America/New_York"))


class FakeClock:
    """Time passes by sleeping alone."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, list[float]()

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.slept.append(seconds)


@pytest.mark.parametrize(
    ("speed", "sizes", "slept"),
    [(1.0, [2] * 4, [60.0] * 3), (60.0, [2] * 4, [1.0] * 3), (120.0, [4, 4], [1.0]), (float("inf"), [8], [])],
)
def test_event_minutes_are_sent_at_their_pace(speed: float, sizes: list[int], slept: list[float]) -> None:
    sent: list[httpx.Request] = []
    client = answering(sent, [])
    clock = FakeClock()
    points = [Written(MIDNIGHT + index // 2 * MINUTE, b"{}") for index in range(8)]
    pace = Pace(speed, clock=clock, sleep=clock.sleep)

    deliver(parcels.packed(points, span=pace.span), Sender(client, say=print), pace, Progress("points"))

    assert [request.content.count(b"\n") for request in sent] == sizes
    assert clock.slept == slept


def answering(
    sent: list[httpx.Request], answers: list[httpx.Response | httpx.TransportError]
) -> httpx.Client:
    """A client whose server gives these answers in turn, then takes everything."""

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        found = answers.pop(0) if answers else httpx.Response(200)
        if isinstance(found, httpx.TransportError):
            raise found
        return found

    return httpx.Client(transport=httpx.MockTransport(answer), base_url="http://vitals.example")


PARCEL = Parcel(MIDNIGHT, "/v1/points", b"{}\n", 1)


def test_a_request_is_repeated_under_its_key_until_it_is_answered() -> None:
    sent: list[httpx.Request] = []
    clock = FakeClock()
    answers = [
        httpx.ConnectError("refused"),
        httpx.Response(503),
        httpx.Response(429, headers={"Retry-After": "7"}),
    ]
    sender = Sender(answering(sent, answers), say=lambda _: None, sleep=clock.sleep)

    sender.send(PARCEL)
    sender.send(PARCEL)

    keys = [request.headers["Idempotency-Key"] for request in sent]
    assert clock.slept == [0.5, 1.0, 7.0]
    assert len(keys) == 5
    assert len(set(keys[:4])) == 1
    assert keys[4] != keys[0]


def test_a_sender_gives_up_when_nobody_answers_for_long() -> None:
    clock = FakeClock()
    answers = [httpx.ConnectError("refused") for _ in range(20)]
    sender = Sender(answering([], answers), patience_s=10.0, say=lambda _: None, sleep=clock.sleep)

    with pytest.raises(Unreachable, match=r"vitals\.example does not answer: refused"):
        sender.send(PARCEL)

    assert clock.slept == [0.5, 1.0, 2.0, 4.0]


def test_a_refusal_is_not_repeated() -> None:
    sent: list[httpx.Request] = []
    error = {"message": "Nothing was taken.", "problems": [{"line": 1, "field": "at", "message": "is old"}]}
    sender = Sender(answering(sent, [httpx.Response(422, json={"error": error})]), say=print)

    with pytest.raises(Refused, match=r"Nothing was taken\.") as refused:
        sender.send(PARCEL)

    assert len(sent) == 1
    assert [str(one) for one in refused.value.problems] == ["at is old"]

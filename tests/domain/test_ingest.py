"""From a body to an acknowledgement: taken once or refused with a reason, and never more than has room."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from domain.catalog.models import Account
from domain.core.db import Database, raw
from domain.core.errors import IdempotencyKeyReused
from domain.core.settings import Settings
from domain.telemetry import columns
from domain.telemetry.admission import Admission
from domain.telemetry.columns import Columns
from domain.telemetry.formats import Columnar, Format, Ndjson, Otlp
from domain.telemetry.ingest import Intake, Request, hashed
from domain.telemetry.outages import Unavailable, is_outage
from domain.telemetry.points import MalformedRequest, PointsRejected
from tests import make

NOW = datetime(2026, 11, 23, 12, 0, 30, tzinfo=UTC)
MINUTE = NOW.replace(second=0) - timedelta(minutes=1)


class Counted:
    """What was counted, by name and labels."""

    def __init__(self) -> None:
        self.found: Counter[str] = Counter()

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        key = " ".join([name.removeprefix("vitals_ingest_").removesuffix("_total"), *labels.values()])
        if amount:
            self.found[key] += int(amount)


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
async def intake(db: Database, settings: Settings, counted: Counted) -> AsyncIterator[Intake]:
    one = Intake(db, settings, counted)
    one.start()
    yield one
    await one.stop()


def line(account: Account | str, /, **fields: Any) -> dict[str, Any]:
    return {
        "account": account if isinstance(account, str) else account.external_id,
        "metric": "payments.count",
        "at": MINUTE.isoformat(),
        "value": 12,
        "labels": {"outcome": "approved"},
        **fields,
    }


def ndjson(*lines: Mapping[str, Any]) -> bytes:
    return "\n".join(map(json.dumps, lines)).encode()


def request(body: bytes, *, key: str | None = None, subject: str = "key:a", **fields: Any) -> Request:
    defaults: dict[str, Any] = {"scope": "operator", "is_backfill": False, "received_at": NOW}
    mark = sha256(body).digest()
    return Request(subject=subject, body=body, body_hash=mark, idempotency_key=key, **defaults | fields)


async def answer(intake: Intake, asked: Request, form: Format) -> Any:
    return json.loads((await intake.take(asked, form)).content)


async def logged(worker_db: Database) -> list[Columns]:
    async with worker_db.read() as session:
        rows = await session.scalars(text("SELECT columns FROM ingest_log ORDER BY id"))
        return [columns.decode(row) for row in rows]


async def values(worker_db: Database) -> list[float]:
    return [value for batch in await logged(worker_db) for value in batch.value.tolist()]


async def test_points_are_logged_under_account_number_and_source_and_counted(
    intake: Intake, db: Database, worker_db: Database, counted: Counted
) -> None:
    one, other = await make.account(db), await make.account(db)
    late = (MINUTE - timedelta(minutes=10)).isoformat()
    body = ndjson(line(one), line(other, value=3), line(one, at=late, value=5))
    assert await answer(intake, request(body), Ndjson()) == {"accepted": 3}
    [batch] = await logged(worker_db)
    rows = zip(batch.account.tolist(), batch.number.tolist(), batch.value.tolist(), strict=True)
    assert [(batch.accounts[account], number, value) for account, number, value in rows] == [
        (one.id, 1, 12),
        (other.id, 1, 3),
        (one.id, 1, 5),
    ]
    assert len(batch.sources) == 1
    assert counted.found == {"points ndjson": 3, "late_points": 1}


async def test_history_is_not_late(intake: Intake, db: Database, counted: Counted) -> None:
    account = await make.account(db)
    body = ndjson(line(account, at=(MINUTE - timedelta(days=10)).isoformat()))
    await intake.take(request(body, is_backfill=True), Ndjson())
    assert counted.found == {"points ndjson": 1}


async def test_a_repetition_has_its_first_answer_from_any_process_and_counts_nothing(
    intake: Intake, db: Database, worker_db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    body = ndjson(line(account))
    other = Intake(db, settings, counted)
    other.start()
    found = [await one.take(request(body), Ndjson()) for one in (intake, intake, other)]
    await other.stop()
    assert [one.is_new for one in found] == [True, False, False]
    assert len({one.content for one in found}) == 1
    assert await values(worker_db) == [12]
    assert counted.found == {"points ndjson": 1}


async def test_a_repetition_is_answered_alike_even_if_it_would_be_refused_by_now(
    intake: Intake, db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    body = ndjson(line(account))
    first = await intake.take(request(body), Ndjson())
    other = Intake(db, settings, counted)
    later = await other.take(request(body, received_at=NOW + timedelta(days=91)), Ndjson())
    assert (later.content, later.is_new) == (first.content, False)


async def test_two_senders_of_the_same_body_are_taken_both(
    intake: Intake, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    for subject in ("key:a", "key:b"):
        assert (await intake.take(request(ndjson(line(account)), subject=subject), Ndjson())).is_new
    batches = await logged(worker_db)
    assert len({batch.sources for batch in batches}) == 2


async def test_a_key_with_another_body_is_a_conflict_however_it_is_found_out(
    intake: Intake, db: Database, worker_db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    await intake.take(request(ndjson(line(account)), key="k"), Ndjson())
    forgetful = Intake(db, settings, counted)
    forgetful.start()
    for one, body in (
        (intake, ndjson(line(account, value=99))),
        (forgetful, ndjson(line(account, value=99))),
        (forgetful, b"no points at all"),
    ):
        with pytest.raises(IdempotencyKeyReused):
            await one.take(request(body, key="k"), Ndjson())
    await forgetful.stop()
    assert await values(worker_db) == [12]


@pytest.mark.parametrize("size", [10, 100_000])
async def test_a_body_is_known_by_its_sha_256_whatever_its_size(size: int) -> None:
    body = bytes(size)
    assert await hashed(body) == sha256(body).digest()


async def test_a_key_and_body_of_another_format_are_a_conflict(intake: Intake, db: Database) -> None:
    await intake.take(request(b"", key="k"), Otlp(as_json=False))
    with pytest.raises(IdempotencyKeyReused, match="another format"):
        await intake.take(request(b"", key="k"), Ndjson())


async def test_a_plain_body_is_refused_whole_and_every_reason_is_counted(
    intake: Intake, db: Database, worker_db: Database, counted: Counted
) -> None:
    account = await make.account(db)
    bad: list[dict[str, Any]] = [
        {"at": "2020-01-01T00:00:00Z"},
        {"value": -1},
        {"metric": "fraud.rate"},
        {"labels": {"é": "x"}},
    ]
    body = ndjson(line(account), *(line(account, **fields) for fields in bad))
    with pytest.raises(PointsRejected):
        await intake.take(request(body), Ndjson())
    with pytest.raises(PointsRejected) as refusal:
        await intake.take(request(ndjson(line(account), line("nobody"))), Ndjson())
    [problem] = refusal.value.problems
    assert (problem.number, problem.field) == (2, "account")
    assert await logged(worker_db) == []
    assert counted.found == {
        "refused ndjson time": 1,
        "refused ndjson value": 1,
        "refused ndjson identity": 2,
        "refused ndjson account": 1,
    }


async def test_a_series_too_many_is_named_and_the_known_ones_go_on(
    db: Database, worker_db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    intake = Intake(db, settings.model_copy(update={"most_series": 1}), counted)
    intake.start()
    await intake.take(request(ndjson(line(account))), Ndjson())
    with pytest.raises(PointsRejected, match=f"account {account.external_id} has 1 series"):
        await intake.take(request(ndjson(line(account, value=5), line(account, labels={}))), Ndjson())
    assert (await intake.take(request(ndjson(line(account, value=6))), Ndjson())).is_new
    await intake.stop()
    assert await values(worker_db) == [12, 6]
    assert counted.found["refused ndjson limit"] == 1


def columnar(account: Account | str, series: list[int], **fields: Any) -> bytes:
    name = account if isinstance(account, str) else account.external_id
    at = [int(MINUTE.timestamp())] * len(series)
    one = {"account": name, "series": series, "at": at, "value": list(range(len(series)))}
    return json.dumps({"accounts": [{**one, **fields}]}).encode()


def registration(*series: tuple[Account, dict[str, str]]) -> bytes:
    named = [
        {"account": account.external_id, "metric": "payments.count", "labels": labels}
        for account, labels in series
    ]
    return json.dumps({"series": named}).encode()


async def test_registered_series_are_written_to_by_number_from_any_process(
    intake: Intake, db: Database, worker_db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    body = registration((account, {"issuer": "a"}), (account, {"issuer": "b"}), (account, {"issuer": "a"}))
    numbers = await intake.register(request(body))
    assert numbers == [1, 2, 1]
    other = Intake(db, settings, counted)
    other.start()
    assert await answer(other, request(columnar(account, [2, 1])), Columnar()) == {"accepted": 2}
    await other.stop()
    [batch] = await logged(worker_db)
    assert list(zip(batch.number.tolist(), batch.value.tolist(), strict=True)) == [(2, 0), (1, 1)]


async def test_numbers_of_an_account_that_is_not_the_senders_are_refused_by_the_account(
    intake: Intake, db: Database, worker_db: Database
) -> None:
    own, other = await make.account(db), await make.account(db)
    await intake.register(request(registration((own, {}), (other, {}))))
    mine = {"scope": f"account:{own.id}"}
    assert (await intake.take(request(columnar(own, [1]), **mine), Columnar())).is_new
    with pytest.raises(PointsRejected) as refusal:
        await intake.take(request(columnar(other, [1]), **mine), Columnar())
    assert refusal.value.problems[0].field == "accounts[0].account"
    with pytest.raises(PointsRejected) as refusal:
        await intake.take(request(columnar(own, [2]), **mine), Columnar())
    assert refusal.value.problems[0].field == "accounts[0].series[0]"
    with pytest.raises(PointsRejected) as refusal:
        await intake.register(request(registration((own, {}), (other, {})), **mine))
    assert (refusal.value.problems[0].number, refusal.value.problems[0].field) == (2, "series[1].account")
    assert len(await logged(worker_db)) == 1


async def test_a_body_that_cannot_be_read_is_told_and_nothing_of_it_kept(
    intake: Intake, worker_db: Database
) -> None:
    with pytest.raises(MalformedRequest):
        await intake.take(request(b"{"), Columnar())
    async with worker_db.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM ingest_batches")) == 0


async def test_an_intake_that_was_told_to_forget_goes_on_with_the_same_numbers(
    intake: Intake, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await intake.take(request(ndjson(line(account, value=1))), Ndjson())
    intake.forget()
    await intake.take(request(ndjson(line(account, value=2))), Ndjson())
    assert [batch.number.tolist() for batch in await logged(worker_db)] == [[1], [1]]


async def test_slots_are_forgotten_once_there_are_very_many_and_numbers_stay(
    intake: Intake, db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await make.account(db)
    monkeypatch.setattr("domain.telemetry.placing._MOST_SLOTS", 1)
    issuers = ("a", "b", "c", "a")
    for value, issuer in enumerate(issuers):
        body = ndjson(line(account, value=value, labels={"issuer": issuer}))
        await intake.take(request(body), Ndjson())
    assert [batch.number.tolist() for batch in await logged(worker_db)] == [[1], [2], [3], [1]]


async def test_requests_in_parallel_that_register_the_same_series_are_all_taken(
    intake: Intake, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    bodies = [
        ndjson(*(line(account, value=n, labels={"issuer": f"{i}"}) for i in range(20))) for n in range(20)
    ]
    found = await asyncio.gather(*(intake.take(request(body), Ndjson()) for body in bodies))
    assert all(one.is_new for one in found)
    numbers = {tuple(batch.number.tolist()) for batch in await logged(worker_db)}
    assert [sorted(one) for one in numbers] == [list(range(1, 21))]


async def test_a_database_that_is_away_is_told_and_nothing_is_acknowledged(
    db: Database, settings: Settings, counted: Counted
) -> None:
    account = await make.account(db)
    away = Database("postgresql://vitals_app@127.0.0.1:1/vitals", db.role)
    intake = Intake(away, settings, counted)
    intake.flusher.start()
    for body in (ndjson(line(account)), b"no points at all"):
        with pytest.raises(Unavailable):
            await intake.take(request(body), Ndjson())
    await intake.flusher.stop()
    await away.dispose()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (asyncpg.DiskFullError("no space left on device"), True),
        (asyncpg.ReadOnlySQLTransactionError("read-only"), True),
        (asyncpg.AdminShutdownError("terminated"), True),
        (asyncpg.InterfaceError("connection is closed"), True),
        (TimeoutError(), True),
        (ConnectionRefusedError(), True),
        (asyncpg.UniqueViolationError("twice"), False),
        (asyncpg.UndefinedTableError("no such table"), False),
        (asyncpg.InvalidTextRepresentationError("no JSON"), False),
        (KeyError("a mistake of ours"), False),
    ],
)
def test_only_trouble_of_the_database_is_an_outage(error: Exception, expected: bool) -> None:
    assert is_outage(error) is expected


async def test_an_argument_of_a_wrong_kind_is_no_outage(db: Database) -> None:
    async with db.read() as session:
        connection = await raw(session)
        with pytest.raises(asyncpg.DataError) as mistake:
            await connection.fetchval("SELECT $1::int", "text")
    assert not is_outage(mistake.value)


def admission(db: Database, *, most_bytes: int = 100) -> Admission:
    return Admission(db, most_bytes=most_bytes, most_lag=timedelta(hours=1))


async def test_bodies_beyond_the_most_are_refused_until_others_are_done(db: Database) -> None:
    room = admission(db)
    with room.enter(NOW) as first:
        first.take(80)
        with room.enter(NOW) as second:
            second.take(20)
            with pytest.raises(Unavailable) as refusal:
                second.take(1)
        assert (refusal.value.retry_after_s, room.bytes, room.requests) == (1, 80, 1)
        with room.enter(NOW) as third:
            third.take(20)
    assert (room.bytes, room.requests) == (0, 0)


async def test_one_that_is_alone_is_taken_whatever_its_size(db: Database) -> None:
    with admission(db).enter(NOW) as alone:
        alone.take(60)
        alone.take(60)
        assert alone.bytes == 120


async def test_requests_beyond_the_most_are_refused(db: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.telemetry.admission.MOST_REQUESTS", 1)
    room = admission(db)
    with room.enter(NOW):
        with pytest.raises(Unavailable):
            room.enter(NOW).__enter__()
        assert room.requests == 1
    with room.enter(NOW):
        assert room.requests == 1


async def test_nothing_is_taken_while_the_log_is_not_worked_off(db: Database, worker_db: Database) -> None:
    room = admission(db)
    row = "INSERT INTO ingest_log (received_at, backfill, points, columns, failure)"
    async with db.transaction() as session:
        set_aside = {"at": NOW - timedelta(days=1), "why": "cannot be read"}
        waits = {"at": NOW - timedelta(minutes=61), "why": None}
        await session.execute(text(f"{row} VALUES (:at, false, 1, '', :why)"), [set_aside, waits])
    await room.look()
    with pytest.raises(Unavailable) as refusal, room.enter(NOW):
        pass
    assert refusal.value.retry_after_s == 30
    with room.enter(NOW - timedelta(minutes=2)):
        pass
    async with worker_db.transaction() as session:
        await session.execute(text("DELETE FROM ingest_log WHERE failure IS NULL"))
    await room.look()
    with room.enter(NOW):
        pass


async def test_the_app_may_know_when_the_oldest_point_came_and_nothing_else_of_the_log(
    db: Database, cleaner: asyncpg.Connection
) -> None:
    row = "SELECT has_function_privilege($1, 'oldest_logged()', 'EXECUTE')"
    assert await cleaner.fetchval(row, "vitals_app")
    assert not await cleaner.fetchval(row, "vitals_backup")
    assert not await cleaner.fetchval("SELECT has_table_privilege('vitals_app', 'ingest_log', 'SELECT')")


def test_without_a_key_the_same_bytes_are_another_request_at_another_door_or_as_history() -> None:
    asked = [
        request(b"{}", door="/v1/metrics"),
        request(b"{}", door="/v1/traces"),
        request(b"{}", door="/v1/metrics", is_backfill=True),
    ]
    assert len({one.key for one in asked}) == 3
    assert request(b"{}", door="/v1/metrics").key == asked[0].key


def test_a_statement_beyond_the_limits_of_the_server_is_no_outage() -> None:
    assert not is_outage(asyncpg.StatementTooComplexError())

"""Sums are exact at any edge and while hours wait to be rolled up; a ticket is of one currency."""

from datetime import UTC, datetime, timedelta

import pytest

from domain.catalog.models import Account
from domain.core.currencies import money
from domain.core.db import Database
from domain.telemetry import tickets
from domain.telemetry.models import Series
from domain.telemetry.rollups import roll_up
from domain.telemetry.sums import Stretch, sums
from domain.telemetry.tickets import Worth
from tests import make

TEN = datetime(2026, 11, 23, 10, tzinfo=UTC)
HOUR = timedelta(hours=1)


async def minutes(worker_db: Database, series: Series, *values: float) -> None:
    """One value a minute from TEN on, of which no hour is rolled up yet."""
    await make.minute_by_minute(worker_db, series, *values, from_=TEN)


async def came_to(worker_db: Database, account: Account, from_: datetime, until: datetime) -> list[float]:
    async with worker_db.read() as session:
        return [one.value for one in await sums(session, account.id, "payments.count", Stretch(from_, until))]


@pytest.mark.parametrize(
    ("begins", "ends"), [(0, 180), (7, 173), (0, 61), (59, 120), (61, 62), (10, 50), (60, 120), (30, 90)]
)
async def test_a_sum_is_the_same_before_and_after_the_roll_up(
    worker_db: Database, begins: int, ends: int
) -> None:
    account = await make.account(worker_db)
    await minutes(worker_db, await make.series(worker_db, account, outcome="approved"), *range(180))
    stretch = TEN + timedelta(minutes=begins), TEN + timedelta(minutes=ends)
    before = await came_to(worker_db, account, *stretch)
    while await roll_up(worker_db, TEN + 4 * HOUR):
        pass
    assert before == await came_to(worker_db, account, *stretch) == [sum(range(begins, ends))]


async def test_the_ticket_is_the_mean_approved_amount_of_the_hours_that_had_amounts(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    for outcome, count in (("approved", 80.0), ("declined", 20.0)):
        series = await make.series(worker_db, account, outcome=outcome)
        await make.hours(worker_db, series, *[count] * 10, from_=TEN)
    amounts = await make.series(worker_db, account, "payments.amount", outcome="approved")
    await make.hours(worker_db, amounts, 400_000, 600_000, from_=TEN + 8 * HOUR)
    async with worker_db.read() as session:
        found = await tickets.turnover(session, account, at=TEN + 10 * HOUR)
        assert (await tickets.turnover(session, account, at=TEN + 8 * HOUR)).ticket is None
    assert (found.ticket, found.approved_share, found.approved_a_day) == (6_250, 0.8, 1_920)


async def test_amounts_of_another_currency_are_not_mixed_in(worker_db: Database) -> None:
    account = await make.account(worker_db, currency="EUR")
    for currency, count, amount in (("EUR", 10.0, 5_000.0), ("USD", 90.0, 900_000.0)):
        for metric, value in (("payments.count", count), ("payments.amount", amount)):
            series = await make.series(worker_db, account, metric, outcome="approved", currency=currency)
            await make.hours(worker_db, series, value, from_=TEN)
    async with worker_db.read() as session:
        assert (await tickets.turnover(session, account, at=TEN + HOUR)).ticket == 500


async def test_no_loss_is_claimed_below_nothing() -> None:
    assert tickets.worth(200, 225, ticket=10_000) == Worth(1_706_000, 2_000_000, 2_294_000)
    assert tickets.worth(5, 100, ticket=10) == Worth(0, 50, 246)
    assert tickets.worth(-30, 100, ticket=10) == Worth(0, 0, 0)
    assert tickets.worth(200, 225, ticket=None) is None


def test_money_is_told_to_the_last_minor_unit_of_its_currency() -> None:
    assert money(123_456_789, "BRL") == "BRL 1,234,567.89"
    assert money(1_234, "JPY") == "JPY 1,234"
    assert money(5, "KWD") == "KWD 0.005"
    assert money(-105, "EUR") == "EUR -1.05"

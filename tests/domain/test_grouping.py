"""Series are split by a label into the largest values and all others, which together are the series."""

from datetime import timedelta

import numpy as np
import pytest

from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import grouping, queries
from domain.telemetry.grouping import Group
from domain.telemetry.models import Series
from domain.telemetry.windows import Resolution, Window
from tests import make
from tests.make import NOON

WINDOW = Window(NOON, NOON + timedelta(hours=3), Resolution.HOUR)
SIZES = {"A": 40, "B": 300, "C": 300, "D": 10, "E": 0}


async def count(db: Database, account: Account) -> None:
    """Nine of ten payments of each issuer are approved; some have no issuer."""
    for issuer, size in SIZES.items():
        for outcome, part in (("approved", 0.9), ("declined", 0.1)):
            one = await make.series(db, account, outcome=outcome, issuer=issuer)
            if size:
                await make.hours(db, one, size * part, 2 * size * part, from_=NOON)
    bare = await make.series(db, account, outcome="declined")
    await make.hours(db, bare, 50, from_=NOON)


async def split(db: Database, series: Series, *, by: str, top: int) -> list[Group]:
    async with db.read("operator") as session:
        [groups] = await grouping.break_down(session, [series], WINDOW, by=by, top=top)
    return groups


async def test_the_largest_values_come_first_and_then_all_others(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await count(worker_db, account)
    attempted = await make.series(worker_db, account, "payments.attempted")
    groups = await split(worker_db, attempted, by="issuer", top=3)
    assert [(one.value, one.is_other) for one in groups] == [
        ("B", False),
        ("C", False),
        ("A", False),
        (None, True),
    ]
    whole = 3 * sum(SIZES.values()) + 50
    assert [one.share for one in groups] == pytest.approx([900 / whole, 900 / whole, 120 / whole, 80 / whole])


async def test_what_lacks_the_label_is_a_group_and_nothing_is_left_over(worker_db: Database) -> None:
    account = await make.account(worker_db)
    await count(worker_db, account)
    attempted = await make.series(worker_db, account, "payments.attempted")
    groups = await split(worker_db, attempted, by="issuer", top=20)
    assert [(one.value, one.is_other) for one in groups] == [
        ("B", False),
        ("C", False),
        ("A", False),
        (None, False),
        ("D", False),
        (None, True),
    ]
    assert groups[-1].share == 0
    [only] = await split(worker_db, attempted, by="no.such.label", top=1)
    assert (only.value, only.is_other, only.share) == (None, False, 1)


@pytest.mark.parametrize("top", [1, 2, 4])
async def test_the_groups_are_together_the_series(worker_db: Database, top: int) -> None:
    account = await make.account(worker_db)
    await count(worker_db, account)
    attempted = await make.series(worker_db, account, "payments.attempted")
    rate = await make.series(worker_db, account, "authorization_rate")
    async with worker_db.read("operator") as session:
        for one in (attempted, rate):
            [groups] = await grouping.break_down(session, [one], WINDOW, by="issuer", top=top)
            [whole] = await queries.read(session, [one], WINDOW)
            parts = await queries.read(session, [group.line for group in groups], WINDOW)
            sizes = np.array([part.sample_sizes for part in parts])
            assert sizes.sum(axis=0).tolist() == whole.sample_sizes.tolist() == [700, 1300, 0]
            assert sum(group.share for group in groups) == pytest.approx(1)
            values = np.array([part.values for part in parts])
            weighted = np.nansum(values * (sizes if one is rate else 1), axis=0)
            assert weighted[:2] == pytest.approx(
                whole.values[:2] * (whole.sample_sizes[:2] if one is rate else 1)
            )
            assert np.isnan(values[:, 2]).all()
            assert np.isnan(whole.values[2])


async def test_several_series_are_split_at_once_as_each_alone(worker_db: Database) -> None:
    accounts = [await make.account(worker_db) for _ in range(2)]
    for account in accounts:
        await count(worker_db, account)
    series = [
        await make.series(worker_db, account, metric, **labels)
        for account in accounts
        for metric, labels in (("authorization_rate", {}), ("payments.attempted", {"issuer": "A"}))
    ]
    async with worker_db.read("operator") as session:
        together = await grouping.break_down(session, series, WINDOW, by="outcome", top=2)
    for one, groups in zip(series, together, strict=True):
        alone = await split(worker_db, one, by="outcome", top=2)
        assert [(group.value, group.share, group.line.parts.tolist()) for group in groups] == [
            (group.value, group.share, group.line.parts.tolist()) for group in alone
        ]
        assert [group.line.parts.tolist() for group in groups] == [
            group.line.parts.tolist() for group in alone
        ]


async def test_a_measured_series_is_split_into_those_of_its_kind_that_fix_at_least_its_labels(
    worker_db: Database,
) -> None:
    account, other = await make.account(worker_db), await make.account(worker_db)
    whole = await make.series(worker_db, account, "payments.latency")
    for place, issuer, observations in ((account, "A", 10), (account, "B", 30), (other, "C", 1_000)):
        one = await make.series(worker_db, place, "payments.latency", issuer=issuer)
        await make.hours(worker_db, one, observations, from_=NOON)
    groups = await split(worker_db, whole, by="issuer", top=1)
    assert [(one.value, one.is_other, one.share) for one in groups] == [
        ("B", False, 0.75),
        (None, True, 0.25),
    ]


async def test_of_an_account_that_sent_nothing_all_are_others(
    worker_db: Database,
) -> None:
    account = await make.account(worker_db)
    rate = await make.series(worker_db, account, "authorization_rate")
    assert await split(worker_db, rate, by="issuer", top=5) == []
    await make.series(worker_db, account, outcome="approved", issuer="A")
    [group] = await split(worker_db, rate, by="issuer", top=5)
    assert (group.is_other, group.share) == (True, 0)

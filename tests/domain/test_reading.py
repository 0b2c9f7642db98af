"""What is read is what was sent, added up plainly: from minutes, rollups, chunks, and after late points."""

import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import fetching, packs, queries, reading, rollups
from domain.telemetry.aggregations import OF_KIND, OF_MINUTES, QUANTILES
from domain.telemetry.fold import fold
from domain.telemetry.models import Series
from domain.telemetry.points import Kind
from domain.telemetry.windows import Resolution, Window
from tests import make
from tests.domain.readings import Key, Plain, Raw, Said

DAYS = 3
LENGTH = timedelta(days=DAYS)
LONG_AFTER = datetime(2026, 11, 23, 12, tzinfo=UTC)
ISSUERS = ("A", "B", "C")


@dataclass
class Shop:
    """An account with series of every kind, and what was sent of them."""

    account: Account
    begin: datetime
    measured: list[Series]
    derived: list[Series]
    sources: list[int]
    raw: Raw

    @classmethod
    async def open(cls, db: Database, zone: str, begin: datetime) -> "Shop":
        account = await make.account(db, time_zone=zone)
        measured = [
            *[
                await make.series(db, account, outcome=outcome, issuer=issuer)
                for outcome in ("approved", "declined", "blocked")
                for issuer in ISSUERS
            ],
            await make.series(db, account, "payments.amount", outcome="approved"),
            *[await make.series(db, account, "payments.latency", issuer=issuer) for issuer in ISSUERS],
            await make.series(db, account, "queue.depth"),
        ]
        derived = [
            await make.series(db, account, "payments.attempted"),
            await make.series(db, account, "authorization_rate"),
            await make.series(db, account, "authorization_rate", issuer="B"),
            await make.series(db, account, "payments.attempted", issuer="C"),
        ]
        sources = [(await make.source(db)).number for _ in range(2)]
        return cls(account, begin, measured, derived, sources, Raw(account))

    def points(self, chance: random.Random, size: int, *, days: int = DAYS) -> dict[Key, Said]:
        """In runs of minutes, so that some windows are full and most are empty."""
        found: dict[Key, Said] = {}
        while len(found) < size:
            first = int(self.begin.timestamp()) + 60 * chance.randrange(days * 1440)
            one, source = chance.choice(self.measured), chance.choice(self.sources)
            for minute in range(chance.randrange(1, 40)):
                found[one.number or 0, source, first + 60 * minute] = said(chance, one.kind)
        return found

    def plain(self, series: Series) -> Plain:
        if series.is_measured:
            return Plain(series.kind, [series.number or 0])
        counts = [one for one in self.measured if one.metric == "payments.count"]
        total = {"approved", "declined"} | ({"blocked"} if series.metric == "payments.attempted" else set())
        parts = [
            one
            for one in counts
            if one.labels["outcome"] in total and series.labels.get("issuer") in (None, one.labels["issuer"])
        ]
        return Plain(
            series.kind,
            [one.number or 0 for one in parts],
            [one.number or 0 for one in parts if one.labels["outcome"] == "approved"],
            [one.number or 0 for one in counts],
        )


def said(chance: random.Random, kind: Kind) -> Said:
    if kind is Kind.GAUGE:
        return Said(chance.uniform(-5, 100), 0)
    if kind is not Kind.DISTRIBUTION:
        return Said(float(chance.randrange(50)), 0)
    seen = tuple(chance.choice((0.0, chance.lognormvariate(4, 1))) for _ in range(chance.randrange(1, 5)))
    # Of some only the mean is known.
    return Said(sum(seen), len(seen), seen if chance.random() < 0.7 else ())


def windows(shop: Shop, chance: random.Random) -> list[Window]:
    """Some of the time at each resolution, among them what lies across the ends of the data."""
    zone, found = ZoneInfo(shop.account.time_zone), []
    for resolution in Resolution:
        longest = min(int(LENGTH.total_seconds()) * 2, 200 * int(resolution.step.total_seconds()))
        from_ = shop.begin + timedelta(seconds=chance.randrange(-90_000, int(LENGTH.total_seconds())))
        until = from_ + timedelta(seconds=chance.randrange(60, longest))
        found.append(Window(from_, until, resolution, zone))
    return [*found, Window(shop.begin - timedelta(days=2), LONG_AFTER, Resolution.DAY, zone)]


async def check(db: Database, shop: Shop, chance: random.Random) -> None:
    """All that can be asked for is what it must be."""
    everything = (*shop.measured, *shop.derived)
    for window in windows(shop, chance):
        for asked in (None, chance.choice([*sorted(OF_MINUTES), *QUANTILES])):
            series = [one for one in everything if asked in (None, *OF_KIND[one.kind])]
            async with db.read("operator") as session:
                read = await queries.read(session, series, window, asked)
                whole = await queries.summarize(session, series, window, asked)
            for one, data, summary in zip(series, read, whole, strict=True):
                line, edges = (shop.plain(one), asked or OF_KIND[one.kind][0]), window.edges.tolist()
                assert_same((data.values, data.sample_sizes), shop.raw.expected(*line, edges))
                assert_same(
                    (summary.value, summary.sample_size), shop.raw.expected(*line, [edges[0], edges[-1]])
                )


def assert_same(found: object, expected: object) -> None:
    wanted = np.array(expected, float).reshape(-1, 2).T
    np.testing.assert_allclose(np.array(found, float).reshape(2, -1), wanted, rtol=1e-9, atol=1e-9)


async def run(work: object, db: Database) -> int:
    done = 0
    while now := await work(db, LONG_AFTER):  # type: ignore[operator]
        done += now
    return done


# The clocks go back by an hour in London, and forward by half an hour on Lord Howe Island.
@pytest.mark.parametrize(
    ("zone", "begin"),
    [
        ("Europe/London", datetime(2026, 10, 23, 5, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2026, 10, 2, 5, tzinfo=UTC)),
        ("Asia/Kolkata", datetime(2026, 11, 3, 20, tzinfo=UTC)),
    ],
)
async def test_all_that_is_read_is_what_was_sent_whatever_it_has_become(
    db: Database, worker_db: Database, zone: str, begin: datetime
) -> None:
    chance = random.Random(zone)
    shop = await Shop.open(db, zone, begin)
    await shop.raw.send(db, shop.points(chance, 400), at=LONG_AFTER)
    assert await run(fold, worker_db)
    await check(db, shop, chance)
    assert await run(rollups.roll_up, worker_db)
    await check(db, shop, chance)
    assert await run(packs.pack, worker_db)
    await check(db, shop, chance)
    await shop.raw.send(db, shop.points(chance, 60, days=1), at=LONG_AFTER)
    assert await run(fold, worker_db)
    await check(db, shop, chance)
    assert await run(rollups.roll_up, worker_db)
    assert await run(packs.pack, worker_db)
    await check(db, shop, chance)


async def test_days_are_right_after_an_account_has_moved_to_another_time_zone(
    db: Database, worker_db: Database
) -> None:
    chance = random.Random(7)
    shop = await Shop.open(db, "Europe/London", datetime(2026, 10, 23, 5, tzinfo=UTC))
    await shop.raw.send(db, shop.points(chance, 400), at=LONG_AFTER)
    assert await run(fold, worker_db)
    assert await run(rollups.roll_up, worker_db)
    # Some share midnights with London until its clocks go back, others never do.
    for zone in ("Africa/Lagos", "Asia/Kolkata", "Africa/Abidjan", "Europe/London"):
        async with db.transaction("operator") as session:
            account = await session.get_one(Account, shop.account.id)
            account.time_zone = shop.account.time_zone = zone
        await check(db, shop, chance)
        await shop.raw.send(db, shop.points(chance, 20), at=LONG_AFTER)
        assert await run(fold, worker_db)
        assert await run(rollups.roll_up, worker_db)
        await check(db, shop, chance)


async def test_what_is_held_at_once_makes_no_difference(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance = random.Random(11)
    shop = await Shop.open(db, "America/Sao_Paulo", datetime(2026, 11, 3, 20, tzinfo=UTC))
    await shop.raw.send(db, shop.points(chance, 300), at=LONG_AFTER)
    assert await run(fold, worker_db)
    for module, name, few in (
        (reading, "CELLS", 2_000),
        (reading, "SKETCHES", 300),
        (fetching, "_ROWS", 5),
        (fetching, "_DECODED", 2),
    ):
        monkeypatch.setattr(module, name, few)
    await check(db, shop, chance)
    assert await run(rollups.roll_up, worker_db)
    await check(db, shop, chance)

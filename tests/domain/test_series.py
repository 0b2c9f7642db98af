"""Series get numbers without gaps, and sources theirs, whoever registers them; points are placed by them."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import select, text

from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import series, sketches
from domain.telemetry.decoded import Decoded
from domain.telemetry.models import AccountSeries, Series, Source
from domain.telemetry.placing import NO_ACCOUNT, Placed, Registry
from domain.telemetry.points import Kind, Labels
from domain.telemetry.senders import ASKED_AGAIN_AFTER, Sender
from domain.telemetry.series import Measured
from domain.telemetry.slots import Identity
from tests import make
from tests.make import NOON

OPERATOR = Sender("operator", "key:a")
COUNT = Kind.COUNT


def measured(account: Account, *numbers: int) -> list[Measured]:
    return [Measured(account.id, "payments.count", labels(number), COUNT) for number in numbers]


def labels(number: int) -> Labels:
    return (("issuer", f"bank-{number}"),)


def identities(account: Account | str, *numbers: int) -> list[Identity]:
    name = account if isinstance(account, str) else account.external_id
    return [Identity(name, "payments.count", labels(number), COUNT) for number in numbers]


def decoded(registry: Registry, sent: Sequence[Identity], *, sources: Sequence[str] = ("",)) -> Decoded:
    """A point of each, of value 0, 1, …; by turns of each source."""
    n = len(sent)
    slots = [registry.slots.slot(*one[:3], sent_as=one.kind) for one in sent]
    return Decoded(
        slot=np.array(slots, np.int32),
        source=np.arange(n, dtype=np.int32) % len(sources),
        sources=tuple(sources),
        at=np.full(n, int(NOON.timestamp())),
        value=np.arange(n, dtype=np.float64),
        count=np.zeros(n, np.int64),
        mode=np.zeros(n, np.uint8),
        start=np.zeros(n, np.int64),
        time=np.zeros(n, np.int64),
        number=np.arange(1, n + 1, dtype=np.int32),
        sketches=sketches.none(n),
    )


async def place(
    registry: Registry, sent: Sequence[Identity], sender: Sender = OPERATOR, *, at: datetime = NOON
) -> Placed:
    return await registry.place(decoded(registry, sent), sender, at=at)


def placed(found: Placed) -> list[tuple[UUID, int, float]]:
    """Account, number and value of each row."""
    columns = found.columns
    return [
        (columns.accounts[account], number, value)
        for account, number, value in zip(
            columns.account.tolist(), columns.number.tolist(), columns.value.tolist(), strict=True
        )
    ]


async def numbers_of(db: Database, account: Account) -> list[int]:
    async with db.read("operator") as session:
        rows = select(Series.number).where(Series.account_id == account.id, Series.is_measured)
        return sorted(number for number in await session.scalars(rows) if number is not None)


async def last_number(db: Database, account: Account) -> int | None:
    async with db.read("operator") as session:
        row = select(AccountSeries.last_number).where(AccountSeries.account_id == account.id)
        return await session.scalar(row)


async def number(db: Database, wanted: Sequence[Measured], *, most: int = 100) -> dict[Measured, int]:
    async with db.transaction("operator") as session:
        return await series.numbers(session, wanted, at=NOON, most=most)


async def test_numbers_are_given_from_one_in_each_account_and_kept(db: Database) -> None:
    one, other = await make.account(db), await make.account(db)
    first = await number(db, [*measured(one, 1, 2), *measured(other, 1)])
    again = await number(db, [*measured(one, 3, 1, 2), *measured(other, 1)])
    assert sorted(first[key] for key in measured(one, 1, 2)) == [1, 2]
    assert first.items() <= again.items()
    assert (again[measured(one, 3)[0]], again[measured(other, 1)[0]]) == (3, 1)
    assert (await last_number(db, one), await last_number(db, other)) == (3, 1)


async def test_a_series_is_kept_with_its_kind_and_labels(db: Database) -> None:
    account = await make.account(db)
    await number(db, [Measured(account.id, "queue.depth", (("zone", "ü"),), Kind.DISTRIBUTION)])
    async with db.read("operator") as session:
        row = (await session.scalars(select(Series))).one()
    assert (row.metric, row.kind, row.labels, row.number, row.is_measured) == (
        "queue.depth",
        Kind.DISTRIBUTION,
        {"zone": "ü"},
        1,
        True,
    )


async def test_racing_processes_number_the_same_series_alike_and_leave_no_gap(db: Database) -> None:
    one, other = await make.account(db), await make.account(db)

    async def race(process: int) -> dict[Measured, int]:
        wanted = [*measured(one, *range(process, process + 5)), *measured(other, *range(process, 8))]
        return await number(db, wanted if process % 2 else wanted[::-1])

    found = await asyncio.gather(*(race(process) for process in range(8)))
    assert await numbers_of(db, one) == list(range(1, 13))
    assert await numbers_of(db, other) == list(range(1, 9))
    together: dict[Measured, int] = {}
    for numbers in found:
        assert together.items() & numbers.items() == {
            (key, together[key]) for key in together.keys() & numbers.keys()
        }
        together |= numbers


async def test_numbers_of_a_transaction_that_gives_up_are_given_again(db: Database) -> None:
    account = await make.account(db)
    async with db.transaction("operator") as session:
        await series.numbers(session, measured(account, 1, 2), at=NOON)
        await session.rollback()
    assert await number(db, measured(account, 3)) == dict.fromkeys(measured(account, 3), 1)


async def test_an_account_has_no_more_series_than_it_may_and_those_go_on(db: Database) -> None:
    account = await make.account(db)
    await number(db, measured(account, 1, 2), most=3)
    found = await number(db, measured(account, 1, 2, 3, 4, 5), most=3)
    assert sorted(found.values()) == [1, 2, 3]
    assert set(measured(account, 1, 2)) <= found.keys()
    assert await last_number(db, account) == 3


async def test_measured_series_are_watched_once_by_what_they_are_part_of(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await number(db, measured(account, 1))
    for _ in range(2):
        async with worker_db.transaction() as session:
            await series.watch(session, [account.id], at=NOON)
    await number(db, measured(account, 2))
    async with worker_db.transaction() as session:
        await series.watch(session, [account.id], at=NOON)
        rows = await session.scalars(select(Series).where(~Series.is_measured))
        found = {(row.metric, str(row.labels), row.number) for row in rows}
    derived = ("authorization_rate", "completion_rate", "payments.attempted")
    fixed: list[dict[str, str]] = [{}, {"issuer": "bank-1"}, {"issuer": "bank-2"}]
    assert found == {(metric, str(one), None) for metric in derived for one in fixed}


async def test_points_are_placed_alike_by_every_process(db: Database) -> None:
    one, other = await make.account(db), await make.account(db)
    sent = [*identities(one, 1, 2), *identities(other, 1), *identities(one, 1)]
    found = [await place(Registry(db), sent) for _ in range(2)]
    assert placed(found[0]) == placed(found[1])
    rows = placed(found[0])
    assert [(account, value) for account, _, value in rows] == [
        (one.id, 0),
        (one.id, 1),
        (other.id, 2),
        (one.id, 3),
    ]
    assert rows[0][1] == rows[3][1] != rows[1][1]


async def test_what_is_known_is_placed_without_asking_the_database(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db)
    first = await place(registry, identities(account, 1, 2))
    await db.dispose()
    gone = Database("postgresql://nobody@127.0.0.1:1/none", "nobody")
    registry._db = registry._senders._db = gone
    assert placed(await place(registry, identities(account, 1, 2))) == placed(first)


async def test_rows_of_accounts_that_a_sender_does_not_know_are_refused_and_others_placed(
    db: Database,
) -> None:
    own, other = await make.account(db), await make.account(db)
    registry = Registry(db)
    sent = [*identities(own, 1), *identities(other, 1), *identities("nobody", 1), *identities(own, 2)]
    await place(registry, sent)  # what an operator's key made known
    found = await place(registry, sent, Sender(f"account:{own.id}", "key:b"))
    assert found.refused == {1: NO_ACCOUNT, 2: NO_ACCOUNT}
    assert [(account, value) for account, _, value in placed(found)] == [(own.id, 0), (own.id, 3)]
    assert found.columns.accounts == (own.id,)


async def test_an_account_that_changed_hands_is_asked_for_again_after_a_while(
    db: Database, worker_db: Database
) -> None:
    parent = await make.account(db)
    child = await make.account(db, parent=parent)
    registry, sender = Registry(db), Sender(f"account:{parent.id}", "key:a")
    assert not (await place(registry, identities(child, 1), sender)).refused
    async with worker_db.transaction() as session:
        await session.execute(
            text("DELETE FROM account_tree WHERE ancestor_id = :parent AND account_id = :child"),
            {"parent": parent.id, "child": child.id},
        )
    soon, later = NOON + ASKED_AGAIN_AFTER / 2, NOON + ASKED_AGAIN_AFTER
    assert not (await place(registry, identities(child, 1), sender, at=soon)).refused
    assert (await place(registry, identities(child, 1), sender, at=later)).refused == {0: NO_ACCOUNT}


async def test_new_series_beyond_the_most_are_refused_by_name_and_known_ones_go_on(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db, most_series=2)
    found = await place(registry, identities(account, 1, 2, 3))
    assert [value for *_, value in placed(found)] == [0, 1]
    [(row, (field, message))] = found.refused.items()
    assert (row, field) == (2, "metric")
    assert account.external_id in message
    assert "2 series" in message
    assert "payments.count" in message
    assert await numbers_of(db, account) == [1, 2]


async def test_a_series_that_was_refused_is_asked_for_again_after_a_while(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db, most_series=1)
    assert list((await place(registry, identities(account, 1, 2))).refused) == [1]
    registry._most_series = 2
    assert list((await place(registry, identities(account, 1, 2), at=NOON)).refused) == [1]
    later = NOON + ASKED_AGAIN_AFTER
    assert not (await place(registry, identities(account, 1, 2), at=later)).refused


async def test_the_sources_of_two_keys_are_two_also_by_one_name(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db)
    sent = decoded(registry, identities(account, 1, 2), sources=("pod-1", "pod-2"))
    found = [await registry.place(sent, Sender("operator", key), at=NOON) for key in ("key:a", "key:b")]
    assert len({*found[0].columns.sources, *found[1].columns.sources}) == 4
    async with db.read("operator") as session:
        names = set(await session.scalars(select(Source.name)))
    assert names == {"key:a/pod-1", "key:a/pod-2", "key:b/pod-1", "key:b/pod-2"}


async def test_sources_beyond_the_most_are_refused_and_known_ones_go_on(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db, most_sources=2)
    sent = decoded(registry, identities(account, 1, 2, 3), sources=("a", "b", "c"))
    found = await registry.place(sent, OPERATOR, at=NOON)
    [(row, (field, message))] = found.refused.items()
    assert (row, field) == (2, "source")
    assert "2 sources" in message
    again = await registry.place(sent, OPERATOR, at=NOON)
    assert (again.columns.sources, list(again.refused)) == (found.columns.sources, [2])


async def test_racing_processes_register_no_more_sources_than_there_may_be(db: Database) -> None:
    async def race(process: int) -> dict[str, int]:
        async with db.transaction("operator") as session:
            names = [f"{process}-{index}" for index in range(3)]
            return await series.sources(session, names, scope="operator", at=NOON, most=7)

    found = await asyncio.gather(*(race(process) for process in range(5)))
    assert sum(map(len, found)) == 7
    async with db.read("operator") as session:
        assert len((await session.scalars(select(Source.number))).all()) == 7


async def test_numbers_find_their_slots_for_those_who_may_write_to_the_account(db: Database) -> None:
    account, other = await make.account(db), await make.account(db)
    await place(Registry(db), [*identities(account, 1, 2, 3), *identities(other, 1)])
    registry, sender = Registry(db), Sender(f"account:{account.id}", "key:a")
    wanted = np.array([3, 1, 9, 1], np.int32)
    strange = await registry.load(
        [(account.external_id, wanted), (other.external_id, wanted), ("nobody", wanted)], sender, at=NOON
    )
    assert strange == {other.external_id, "nobody"}
    slots = registry.slots_of(account.external_id, wanted).tolist()
    assert (slots[2], slots[1]) == (-1, slots[3])
    assert registry.slots_of(other.external_id, wanted).tolist() == [-1] * 4
    found = {registry.slots.identities[slot] for slot in slots if slot >= 0}
    async with db.read("operator") as session:
        rows = select(Series.labels).where(Series.account_id == account.id, Series.number.in_([1, 3]))
        expected = [tuple(one.items()) for one in await session.scalars(rows)]
    assert sorted(one.labels for one in found) == sorted(expected)


async def test_a_registry_is_full_once_it_has_seen_very_many_slots(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = await make.account(db)
    registry = Registry(db)
    monkeypatch.setattr("domain.telemetry.placing._MOST_SLOTS", 2)
    await place(registry, identities(account, 1, 2))
    assert not registry.is_full
    await place(registry, identities(account, 3))
    assert registry.is_full


async def test_a_registry_grows_with_its_slots(db: Database) -> None:
    account = await make.account(db)
    registry = Registry(db)
    many = identities(account, *range(3_000))
    rows = placed(await place(registry, many))
    assert sorted(number for _, number, _ in rows) == list(range(1, 3_001))
    assert placed(await place(registry, many[::-1])) == [
        (account.id, number, float(2_999 - value)) for _, number, value in rows[::-1]
    ]


async def test_names_of_accounts_that_are_none_fill_a_registry_too(
    db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("domain.telemetry.placing._MOST_TEXT", 300)
    registry, sender = Registry(db), Sender("operator", "key:a")
    for letter in "ab":
        assert not registry.is_full
        wanted = [(letter * 200, np.array([1], np.int32))]
        assert await registry.load(wanted, sender, at=NOON) == {letter * 200}
    assert registry.is_full

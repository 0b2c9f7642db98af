"""Stripe's events taken in: each once, in any order, for the accounts that its endpoint may write to."""

import asyncio
import random
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import func, select, text, update

from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.settings import Settings
from domain.stripe import endpoints, queries, waiting
from domain.stripe.endpoints import Endpoint
from domain.stripe.models import EndpointNotFound, SecretUnfit, SecretUnreadable, State, StripeEvent
from domain.stripe.sealing import Seal
from domain.stripe.service import Receiver
from domain.telemetry.models import IngestLog, Series
from tests import make
from tests import stripe_bodies as bodies
from tests.make import NOON
from tests.stripe_bodies import SECRET, charge, declined, event, intent, logged, thin

SEAL = Seal("MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
MINUTE = timedelta(minutes=1)
Json = dict[str, Any]


async def endpoint(db: Database, account: Account | None = None, *, takes_tests: bool = False) -> Endpoint:
    """A new one, of the account or of the platform."""
    async with db.transaction("operator") as session:
        row = await endpoints.add(
            session,
            SECRET,
            account=account.external_id if account else None,
            takes_tests=takes_tests,
            seal=SEAL,
            by="test",
            at=NOON,
        )
    return await endpoints.find(db, row.id, SEAL, at=NOON)


async def mapped(db: Database, stripe_account: str, account: Account) -> None:
    async with db.transaction("operator") as session:
        pairs = {stripe_account: account.external_id}
        await endpoints.map_accounts(session, pairs, by="test", at=NOON)


async def received(db: Database, to: Endpoint, *made: Json) -> list[State | None]:
    """What became of each, one after the other."""
    receiver = Receiver(db, Settings())
    return [(await receiver.receive(to, bodies.body(one), at=NOON)).state for one in made]


async def kept(worker_db: Database) -> list[StripeEvent]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(StripeEvent).order_by(StripeEvent.id)))


async def test_an_event_and_its_points_are_written_once_and_nothing_of_the_payment_is_kept(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    own = await endpoint(db, account)
    paid = event("charge.succeeded", charge())
    assert await received(db, own, paid, paid) == [State.TAKEN, None]
    (row,) = await kept(worker_db)
    assert (row.state, row.type, row.account_id, row.created_at) == (
        State.TAKEN, "charge.succeeded", account.id, NOON,
    )  # fmt: skip
    assert row.payload is None
    labels = "country=BR method=card network=visa outcome=approved"
    assert await logged(worker_db) == {
        (account.external_id, "payments.count", labels, NOON): 1,
        (account.external_id, "payments.amount", labels.replace(" m", " currency=BRL m"), NOON): 1000,
    }


async def test_an_event_that_comes_many_times_at_once_has_one_effect(
    db: Database, worker_db: Database
) -> None:
    own = await endpoint(db, await make.account(db))
    paid = bodies.body(event("charge.succeeded", charge()))
    receiver = Receiver(db, Settings())
    receipts = await asyncio.gather(*(receiver.receive(own, paid, at=NOON) for _ in range(20)))
    assert [one.state for one in receipts if one.state] == [State.TAKEN]
    assert sum((await logged(worker_db)).values()) == 1001


def history() -> list[Json]:
    """What happens with a merchant's payments in some minutes, with events that say the same."""
    made = []
    for number in range(4):
        at = bodies.NOON_S + 45 * number
        paid, refused = charge(amount=1000 + number), declined(amount=500)
        error = {"charge": refused["id"], "code": "card_declined"}
        made += [
            event("charge.succeeded", paid, created=at),
            event("payment_intent.succeeded", intent(latest_charge=paid["id"]), created=at),
            event("charge.failed", refused, created=at + 1),
            event(
                "payment_intent.payment_failed",
                intent(latest_charge=refused["id"], last_payment_error=error),
                created=at + 1,
            ),
            event(
                "charge.refunded",
                paid | {"amount_refunded": 300 + 100 * number},
                previous={"amount_refunded": 100 * number},
                created=at + 20,
            ),
        ]
    payout = {"amount": 9000, "currency": "brl", "type": "bank_account"}
    dispute = {"amount": 1000, "currency": "brl", "reason": "fraudulent"}
    return [
        *made,
        event("payout.paid", payout, created=bodies.NOON_S + 70),
        event("charge.dispute.created", dispute, created=bodies.NOON_S + 80),
    ]


@pytest.mark.parametrize("seed", range(4))
async def test_events_in_any_order_and_number_come_to_the_same_minutes(
    db: Database, worker_db: Database, seed: int
) -> None:
    account, made, shuffle = await make.account(db), history(), random.Random(seed)
    own = await endpoint(db, account)
    disordered = [*made, *shuffle.choices(made, k=10)]
    shuffle.shuffle(disordered)
    receivers = [Receiver(db, Settings()), Receiver(db, Settings())]

    async def receive(process: int) -> None:
        for one in disordered[process::2]:
            await receivers[process].receive(own, bodies.body(one), at=NOON)

    await asyncio.gather(receive(0), receive(1))
    found = await logged(worker_db)
    by_minute = {
        (metric, labels.partition("outcome=")[2].split()[0], int((at - NOON) / MINUTE)): 0
        for _, metric, labels, at in found
    }
    for (name, metric, labels, at), value in found.items():
        assert name == account.external_id
        by_minute[metric, labels.partition("outcome=")[2].split()[0], int((at - NOON) / MINUTE)] += value
    assert by_minute == {
        ("payments.count", "approved", 0): 2,
        ("payments.count", "approved", 1): 1,
        ("payments.count", "approved", 2): 1,
        ("payments.amount", "approved", 0): 2001,
        ("payments.amount", "approved", 1): 1002,
        ("payments.amount", "approved", 2): 1003,
        ("payments.count", "declined", 0): 2,
        ("payments.count", "declined", 1): 1,
        ("payments.count", "declined", 2): 1,
        ("payments.amount", "declined", 0): 1000,
        ("payments.amount", "declined", 1): 500,
        ("payments.amount", "declined", 2): 500,
        ("payments.count", "refunded", 0): 1,
        ("payments.count", "refunded", 1): 2,
        ("payments.count", "refunded", 2): 1,
        ("payments.amount", "refunded", 0): 300,
        ("payments.amount", "refunded", 1): 600,
        ("payments.amount", "refunded", 2): 300,
        ("payments.count", "disputed", 1): 1,
        ("payments.amount", "disputed", 1): 1000,
        ("payouts.count", "paid", 1): 1,
        ("payouts.amount", "paid", 1): 9000,
    }


async def test_payouts_are_counts_and_amounts_and_no_levels(db: Database, worker_db: Database) -> None:
    own = await endpoint(db, await make.account(db))
    payout = {"amount": 9000, "currency": "brl", "type": "bank_account"}
    await received(db, own, event("payout.paid", payout))
    async with worker_db.read() as session:
        rows = (await session.execute(select(Series.metric, Series.kind).order_by(Series.metric))).all()
    assert [(metric, kind.value) for metric, kind in rows] == [
        ("payouts.amount", "AMOUNT"),
        ("payouts.count", "COUNT"),
    ]


async def test_two_endpoints_do_not_stand_in_the_way_of_each_others_ids(
    db: Database, worker_db: Database
) -> None:
    one, other = await make.account(db), await make.account(db)
    paid = event("charge.succeeded", charge())
    assert await received(db, await endpoint(db, one), paid) == [State.TAKEN]
    assert await received(db, await endpoint(db, other), paid) == [State.TAKEN]
    assert {name for name, *_ in await logged(worker_db)} == {one.external_id, other.external_id}


async def test_an_event_that_two_endpoints_bring_counts_once_for_its_account(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await mapped(db, "acct_1", account)
    paid = event("charge.succeeded", charge())
    assert await received(db, await endpoint(db, account), paid) == [State.TAKEN]
    assert await received(db, await endpoint(db), paid | {"account": "acct_1"}) == [None]
    assert sum((await logged(worker_db)).values()) == 1001


async def test_a_platforms_events_belong_to_the_accounts_that_are_mapped(
    db: Database, worker_db: Database
) -> None:
    first, second = await make.account(db), await make.account(db)
    await mapped(db, "acct_1", first)
    await mapped(db, "acct_2", second)
    states = await received(
        db,
        await endpoint(db),
        event("charge.succeeded", charge(), account="acct_1"),
        event("charge.succeeded", charge(on_behalf_of="acct_2")),
        event("charge.succeeded", charge(), account="acct_3"),
        event("charge.succeeded", charge()),
    )
    assert states == [State.TAKEN, State.TAKEN, State.UNMAPPED, State.UNMAPPED]
    assert {name for name, *_ in await logged(worker_db)} == {first.external_id, second.external_id}


async def test_a_merchants_endpoint_writes_to_its_own_account_and_those_below_it_alone(
    db: Database, worker_db: Database
) -> None:
    own, other = await make.account(db), await make.account(db)
    below = await make.account(db, parent=own)
    await mapped(db, "acct_below", below)
    await mapped(db, "acct_other", other)
    states = await received(
        db,
        await endpoint(db, own),
        event("charge.succeeded", charge()),
        event("charge.succeeded", charge(), account="acct_below"),
        event("charge.succeeded", charge(), account="acct_other"),
        event("charge.succeeded", charge(), account="acct_unknown"),
        event("charge.succeeded", charge(on_behalf_of="acct_other")),
    )
    assert states == [State.TAKEN, State.TAKEN, State.UNMAPPED, State.UNMAPPED, State.TAKEN]
    counted = {
        name: value for (name, metric, *_), value in (await logged(worker_db)).items() if metric == COUNT
    }
    assert counted == {own.external_id: 2, below.external_id: 1}
    assert await waiting.take_mapped(worker_db, Settings(), NOON) == 0


COUNT = "payments.count"


async def test_the_wall_behind_the_endpoint_lets_it_see_no_other_accounts(db: Database) -> None:
    """Whatever is asked in its scopes, nothing of others is found, and nothing can be written for them."""
    own, other = await make.account(db), await make.account(db)
    await mapped(db, "acct_other", other)
    one, another = await endpoint(db, own), await endpoint(db, other)
    async with db.read(one.sender.scope) as session:
        assert await queries.mapped(session, "acct_other", below=None) is None
        assert await session.scalar(text("SELECT count(*) FROM stripe_endpoints")) == 0
    async with db.read(one.scope) as session:
        assert await session.scalar(text("SELECT id FROM stripe_endpoints")) == one.id
        for table in ("accounts", "stripe_accounts", "series", "sources"):
            assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0
    with pytest.raises(Exception, match="row-level security"):
        await add_in(db, one.scope, row_of(another.id))


async def add_in(db: Database, scope: str, row: StripeEvent) -> None:
    async with db.transaction(scope) as session:
        session.add(row)


def row_of(endpoint_id: UUID) -> StripeEvent:
    return StripeEvent(
        endpoint_id=endpoint_id,
        id="evt_0",
        type="charge.succeeded",
        state=State.TAKEN,
        is_live=True,
        created_at=NOON,
        received_at=NOON,
    )


async def test_what_waited_for_its_account_is_taken_in_once_it_is_mapped(
    db: Database, worker_db: Database
) -> None:
    account, platform = await make.account(db), await endpoint(db)
    made = [
        event("charge.succeeded", charge(), account="acct_1", created=bodies.NOON_S - 600 * n)
        for n in range(3)
    ]
    assert await received(db, platform, *made, made[0]) == [State.UNMAPPED] * 3 + [None]
    assert [row.payload for row in await kept(worker_db)] == [bodies.body(one) for one in sorted_by_id(made)]
    assert await waiting.take_mapped(worker_db, Settings(), NOON) == 0
    await mapped(db, "acct_1", account)
    taken = await asyncio.gather(*(waiting.take_mapped(worker_db, Settings(), NOON) for _ in range(3)))
    assert sum(taken) == 3
    rows = await kept(worker_db)
    assert {(row.state, row.account_id, row.payload) for row in rows} == {(State.TAKEN, account.id, None)}
    assert sum((await logged(worker_db)).values()) == 3 * 1001
    async with worker_db.read() as session:
        assert set(await session.scalars(select(IngestLog.backfill))) == {True}
    assert await received(db, platform, *made) == [None] * 3


def sorted_by_id(made: list[Json]) -> list[Json]:
    return sorted(made, key=lambda one: one["id"])


async def test_what_waited_and_came_by_another_endpoint_meanwhile_counts_once(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    paid = event("charge.succeeded", charge())
    assert await received(db, await endpoint(db), paid | {"account": "acct_1"}) == [State.UNMAPPED]
    assert await received(db, await endpoint(db, account), paid) == [State.TAKEN]
    await mapped(db, "acct_1", account)
    assert await waiting.take_mapped(worker_db, Settings(), NOON) == 1
    assert sorted(row.state for row in await kept(worker_db)) == [State.IGNORED, State.TAKEN]
    assert sum((await logged(worker_db)).values()) == 1001


async def test_one_event_that_cannot_be_taken_in_does_not_stop_the_others(
    db: Database, worker_db: Database
) -> None:
    account, platform = await make.account(db), await endpoint(db)
    made = [event("charge.succeeded", charge(), account="acct_1") for _ in range(2)]
    await received(db, platform, *made)
    async with worker_db.transaction() as session:
        await session.execute(
            update(StripeEvent).where(StripeEvent.id == made[0]["id"]).values(payload=b"not an event")
        )
    await mapped(db, "acct_1", account)
    assert await waiting.take_mapped(worker_db, Settings(), NOON) == 2
    states = {row.id: (row.state, row.remark) for row in await kept(worker_db)}
    assert states[made[0]["id"]] == (State.FAILED, "The body is not JSON.")
    assert states[made[1]["id"]] == (State.TAKEN, None)


async def test_what_cannot_be_used_is_kept_with_its_reason_and_has_no_points(
    db: Database, worker_db: Database
) -> None:
    own = await endpoint(db, await make.account(db))
    states = await received(
        db,
        own,
        event("charge.succeeded", charge(amount="10.00"), id="evt_a"),
        event("charge.succeeded", charge(), id="evt_b", created=0),
        event("charge.failed", declined("x" * 300), id="evt_c"),
        event("customer.created", {}, id="evt_d"),
        event("charge.succeeded", charge(), id="evt_e", livemode=False),
        thin(id="evt_f"),
    )
    assert states == [State.FAILED] * 3 + [State.IGNORED] * 2 + [State.UNRESOLVED]
    rows = await kept(worker_db)
    assert [row.remark for row in rows] == [
        "Its object cannot be read: Expected `int`, got `str` - at `$.amount`.",
        "It happened more than 30 days before it came.",
        "It cannot be kept: labels.code must have at most 200 characters.",
        "Its type is not known.",
        "It is of test mode, which the endpoint does not take.",
        None,
    ]
    assert [row.payload is not None for row in rows] == [True] * 3 + [False] * 2 + [True]
    assert await logged(worker_db) == {}


async def test_an_endpoint_for_tests_takes_events_of_test_mode(db: Database) -> None:
    own = await endpoint(db, await make.account(db), takes_tests=True)
    assert await received(db, own, event("charge.succeeded", charge(), livemode=False)) == [State.TAKEN]


async def test_the_endpoint_of_the_settings_is_the_platforms_and_needs_no_row(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await mapped(db, "acct_1", account)
    platform = endpoints.of_settings(f" {SECRET} ,whsec_another_one_of_them")
    assert platform.secrets == (SECRET, "whsec_another_one_of_them")
    assert await received(db, platform, event("charge.succeeded", charge(), account="acct_1")) == [
        State.TAKEN
    ]
    with pytest.raises(EndpointNotFound):
        endpoints.of_settings(" , ")


async def test_after_a_rotation_both_secrets_are_good_for_a_while(db: Database) -> None:
    one = await endpoint(db)
    async with db.transaction("operator") as session:
        await endpoints.rotate(
            session,
            one.id,
            "whsec_the_new_one_of_them",
            overlap=timedelta(hours=1),
            seal=SEAL,
            by="test",
            at=NOON,
        )
    found = [await endpoints.find(db, one.id, SEAL, at=NOON + timedelta(hours=n)) for n in (0, 1)]
    assert [other.secrets for other in found] == [
        ("whsec_the_new_one_of_them", SECRET),
        ("whsec_the_new_one_of_them",),
    ]


async def test_secrets_are_sealed_at_rest_and_can_be_sealed_with_another_key(db: Database) -> None:
    one, key = await endpoint(db), "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
    async with db.transaction("operator") as session:
        both = Seal(f"{key},MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=")
        assert await endpoints.reseal(session, seal=both, by="test", at=NOON) == 1
        stored = await session.scalar(text("SELECT secret FROM stripe_endpoints"))
    assert SECRET.encode() not in stored
    assert (await endpoints.find(db, one.id, Seal(key), at=NOON)).secrets == (SECRET,)
    with pytest.raises(SecretUnreadable):
        await endpoints.find(db, one.id, SEAL, at=NOON)


async def test_a_removed_endpoint_is_found_no_more_and_its_events_wait_for_nothing(
    db: Database, worker_db: Database
) -> None:
    platform = await endpoint(db)
    await received(db, platform, event("charge.succeeded", charge(), account="acct_1"))
    async with db.transaction("operator") as session:
        await endpoints.remove(session, platform.id, by="test", at=NOON)
    with pytest.raises(EndpointNotFound):
        await endpoints.find(db, platform.id, SEAL, at=NOON)
    await mapped(db, "acct_1", await make.account(db))
    assert await waiting.take_mapped(worker_db, Settings(), NOON) == 0


async def test_an_unfit_secret_makes_no_endpoint(db: Database) -> None:
    for secret in ("", "short", "with space in it it is", "ключ" * 10):
        with pytest.raises(SecretUnfit):
            async with db.transaction("operator") as session:
                await endpoints.add(
                    session, secret, account=None, takes_tests=False, seal=SEAL, by="test", at=NOON
                )
    async with db.read("operator") as session:
        assert await queries.endpoints(session) == []


async def test_events_are_forgotten_once_they_cannot_come_again(db: Database, worker_db: Database) -> None:
    own = await endpoint(db, await make.account(db))
    await received(db, own, *(event("charge.succeeded", charge()) for _ in range(3)))
    async with worker_db.transaction() as session:
        assert await waiting.forget(session, NOON + timedelta(days=31)) == 0
        assert await waiting.forget(session, NOON + timedelta(days=31, seconds=1)) == 3
        assert await session.scalar(select(func.count()).select_from(StripeEvent)) == 0

"""Keys are found by prefix, proved by a hash, and see what row security shows to their scope."""

import asyncio
import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert, literal_column, select
from sqlalchemy.exc import DBAPIError, IntegrityError

from domain.access import idempotency, queries
from domain.access import service as access
from domain.access.credentials import Credential
from domain.access.models import (
    ApiKey,
    ApiKeyNotFound,
    AuditEntry,
    PrincipalKind,
    ScopeNotAllowed,
    Unauthenticated,
)
from domain.access.scopes import ALLOWED, DEFAULT, READING, granted
from domain.access.service import Holder
from domain.core.db import Database
from domain.core.errors import IdempotencyKeyReused, InvalidInput
from domain.core.ids import uuid7
from tests import make
from tests.make import NOON

OPERATOR, INGEST = Holder(PrincipalKind.OPERATOR), Holder(PrincipalKind.INGEST)


async def created(db: Database, holder: Holder = OPERATOR, **others: Any) -> tuple[ApiKey, str]:
    async with db.transaction("operator") as session:
        return await access.create_key(session, name="a key", holder=holder, by="test", at=NOON, **others)


async def revoked(db: Database, prefix: str, **others: Any) -> ApiKey:
    async with db.transaction("operator") as session:
        return await access.revoke(session, prefix, by="test", **{"at": NOON} | others)


async def stored(db: Database, prefix: str) -> ApiKey:
    async with db.read("operator") as session:
        return await queries.get(session, prefix)


async def acts(db: Database) -> list[tuple[str, str, UUID | None]]:
    async with db.read("operator") as session:
        rows = await session.scalars(select(AuditEntry).order_by(AuditEntry.id))
        return [(row.actor, row.action, row.subject_id) for row in rows]


async def test_a_key_is_kept_as_prefix_and_hash_alone(db: Database) -> None:
    key, text = await created(db)

    start, prefix, secret = text.split("_", 2)
    row = await stored(db, prefix)
    assert (start, row.id, row.secret_hash) == ("vk", key.id, hashlib.sha256(secret.encode()).digest())
    assert len(secret) == 43
    assert await acts(db) == [("test", "api_key.created", key.id)]


async def test_an_operators_key_identifies_it(db: Database) -> None:
    key, text = await created(db)

    principal = await access.identify(db, text, NOON)

    assert (principal.kind, principal.key_id, principal.name) == (PrincipalKind.OPERATOR, key.id, "a key")
    assert (principal.subject, principal.scope) == (f"key:{key.prefix}", "operator")
    assert principal.scopes == DEFAULT[PrincipalKind.OPERATOR]
    assert principal.account_ids == ()


async def test_a_merchants_key_sees_its_account_and_those_below(db: Database) -> None:
    group = await make.account(db)
    shop = await make.account(db, parent=group)
    till = await make.account(db, parent=shop)
    await make.account(db, parent=group)
    _, text = await created(db, Holder(PrincipalKind.MERCHANT, account_id=shop.id))

    principal = await access.identify(db, text, NOON)

    assert (principal.account_id, principal.scope) == (shop.id, f"account:{shop.id}")
    assert principal.account_ids == tuple(sorted((shop.id, till.id)))


async def test_a_partners_key_names_its_partner(db: Database) -> None:
    partner = await make.partner(db)
    _, text = await created(db, Holder(PrincipalKind.PARTNER, partner_id=partner.id))

    principal = await access.identify(db, text, NOON)

    assert (principal.partner_id, principal.scope) == (partner.id, f"partner:{partner.id}")


async def test_whatever_is_wrong_with_a_credential_the_answer_is_the_same(db: Database) -> None:
    key, text = await created(db)
    _, other = await created(db)
    _, expired = await created(db, expires_at=NOON + timedelta(hours=1))
    gone, withdrawn = await created(db)
    await revoked(db, gone.prefix)
    late = NOON + timedelta(hours=1)
    mixed = f"vk_{key.prefix}_{other.split('_', 2)[2]}"
    wrong = [
        mixed,
        expired,
        withdrawn,
        Credential.make().text,
        "",
        "vk_",
        text[:-1],
        f"{text} ",
        f"{text}\x00",
    ]

    answers = set()
    for credential in wrong:
        with pytest.raises(Unauthenticated) as refusal:
            await access.identify(db, credential, late)
        answers.add(str(refusal.value))

    assert answers == {"The credential is missing, unknown, revoked or expired."}
    assert (await access.identify(db, text, late)).key_id == key.id
    assert (await access.identify(db, expired, NOON)).name == "a key"


async def test_the_use_of_a_key_is_written_once_a_minute(db: Database) -> None:
    key, text = await created(db)
    written = []

    for seconds in (10, 20, 61, 30):
        await access.identify(db, text, NOON + timedelta(seconds=seconds))
        async with db.read("operator") as session:
            row = select(ApiKey.last_used_at, literal_column("xmin::text")).where(ApiKey.id == key.id)
            written.append((await session.execute(row)).one())

    times = [row[0] for row in written]
    assert times == [NOON, NOON, NOON + timedelta(minutes=1), NOON + timedelta(minutes=1)]
    assert len({row[1] for row in written}) == 2


async def test_while_a_key_is_looked_up_no_other_is_seen(db: Database) -> None:
    key, _ = await created(db)
    await created(db)

    async with db.read(f"auth:{key.prefix}") as session:
        assert [row.id for row in await queries.keys(session)] == [key.id]
    async with db.read() as session:
        assert await queries.keys(session) == []


async def test_a_revoked_key_stays_revoked_since_the_first_time(db: Database) -> None:
    key, _ = await created(db)

    await revoked(db, key.prefix)
    again = await revoked(db, key.prefix, at=NOON + timedelta(days=1))

    assert again.revoked_at == NOON
    assert [action for _, action, _ in await acts(db)] == ["api_key.created", "api_key.revoked"]


async def test_a_key_that_does_not_exist_cannot_be_revoked(db: Database) -> None:
    with pytest.raises(ApiKeyNotFound):
        await revoked(db, "unknown")

    assert await acts(db) == []


async def test_a_merchant_cannot_revoke_or_list_anothers_key(db: Database) -> None:
    mine, other = await make.account(db), await make.account(db)
    key, text = await created(db, Holder(PrincipalKind.MERCHANT, account_id=other.id))

    async with db.transaction(f"account:{mine.id}") as session:
        assert await queries.keys(session) == []
        with pytest.raises(ApiKeyNotFound):
            await access.revoke(session, key.prefix, by="test", at=NOON)

    assert (await access.identify(db, text, NOON)).account_id == other.id


async def test_a_merchants_scope_cannot_write_an_operators_key(db: Database) -> None:
    account = await make.account(db)
    scope = f"account:{account.id}"

    async with db.transaction(scope) as session:
        with pytest.raises(DBAPIError, match="row-level security"):
            await access.create_key(session, name="a key", holder=OPERATOR, by="test", at=NOON)
        await session.rollback()
    row = {"id": uuid7(), "name": "a key", "prefix": "made", "secret_hash": b"", "scopes": []}
    wider = row | {"kind": PrincipalKind.OPERATOR, "account_id": account.id, "created_at": NOON}
    async with db.transaction(scope) as session:
        with pytest.raises(IntegrityError, match="ck_api_keys_owner"):
            await session.execute(insert(ApiKey).values(**wider))
        await session.rollback()

    async with db.read("operator") as session:
        assert await queries.keys(session) == []


async def test_a_merchant_may_leave_an_audit_entry_that_it_cannot_read(db: Database) -> None:
    account = await make.account(db)

    async with db.transaction(f"account:{account.id}") as session:
        await access.audit(session, "api_key.revoked", account.id, by="key:made", at=NOON, request_id="r1")
        assert (await session.scalars(select(AuditEntry))).all() == []

    assert await acts(db) == [("key:made", "api_key.revoked", account.id)]


def test_a_key_has_the_scopes_of_its_kind_and_none_beyond_them() -> None:
    assert granted(PrincipalKind.MERCHANT) == sorted(READING | {"insights:write"})
    assert granted(PrincipalKind.INGEST) == ["status:write", "telemetry:write"]
    assert granted(PrincipalKind.MERCHANT, ["telemetry:write", "telemetry:write"]) == ["telemetry:write"]
    assert all(DEFAULT[kind] <= ALLOWED[kind] for kind in PrincipalKind)


@pytest.mark.parametrize("wanted", [["incidents:write"], ["accounts:read", "everything"], []])
async def test_scopes_beyond_the_kind_are_refused(db: Database, wanted: list[str]) -> None:
    account = await make.account(db)

    with pytest.raises(ScopeNotAllowed) as refusal:
        await created(db, Holder(PrincipalKind.MERCHANT, account_id=account.id), scopes=wanted)

    assert refusal.value.path == ("scopes",)
    assert await acts(db) == []


async def test_scopes_that_are_in_a_row_but_not_of_its_kind_give_nothing(db: Database) -> None:
    key, text = await created(db, INGEST)
    async with db.transaction("operator") as session:
        (await queries.get(session, key.prefix)).scopes = ["telemetry:write", "incidents:write"]

    assert (await access.identify(db, text, NOON)).scopes == {"telemetry:write"}


@pytest.mark.parametrize(
    "holder",
    [
        {"kind": PrincipalKind.MERCHANT},
        {"kind": PrincipalKind.PARTNER, "account_id": uuid7()},
        {"kind": PrincipalKind.OPERATOR, "partner_id": uuid7()},
    ],
)
def test_a_holder_has_what_its_kind_says(holder: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        Holder(**holder)


@pytest.mark.parametrize(
    ("others", "path"),
    [({"name": "a\x00b"}, "name"), ({"name": " "}, "name"), ({"expires_at": NOON}, "expiresAt")],
)
async def test_a_key_that_makes_no_sense_is_not_made(db: Database, others: dict[str, Any], path: str) -> None:
    given = {"name": "a key", "holder": OPERATOR, "by": "test", "at": NOON} | others
    async with db.transaction("operator") as session:
        with pytest.raises(InvalidInput) as refusal:
            await access.create_key(session, **given)

    assert refusal.value.path == (path,)
    assert await acts(db) == []


def test_a_secret_is_in_no_representation() -> None:
    credential = Credential.make()

    assert credential.secret not in repr(credential)
    assert Credential.parse(credential.text) == credential


async def test_a_repeated_mutation_gives_the_object_of_the_first(db: Database) -> None:
    principal, made = make.operator(), uuid7()
    first = idempotency.fingerprint("declareIncident", {"title": "Slow", "impact": "MINOR"})
    again = idempotency.fingerprint("declareIncident", {"impact": "MINOR", "title": "Slow"})

    async with db.transaction(principal.scope) as session:
        assert await idempotency.find(session, principal, "k", input_hash=first) is None
        await idempotency.keep(session, principal, "k", input_hash=first, object_id=made, at=NOON)

    async with db.transaction(principal.scope) as session:
        assert await idempotency.find(session, principal, "k", input_hash=again) == made
        with pytest.raises(IdempotencyKeyReused):
            await idempotency.find(session, principal, "k", input_hash=b"another input")


async def test_an_idempotency_key_is_of_one_api_key_alone(db: Database) -> None:
    account = await make.account(db)
    mine, same_account, other_kind = make.merchant(account), make.merchant(account), make.operator()
    async with db.transaction(mine.scope) as session:
        await idempotency.keep(session, mine, "k", input_hash=b"one", object_id=uuid7(), at=NOON)

    for principal in (same_account, other_kind):
        async with db.transaction(principal.scope) as session:
            assert await idempotency.find(session, principal, "k", input_hash=b"two") is None


async def test_of_mutations_in_parallel_with_one_key_one_works(db: Database) -> None:
    principal = make.operator()

    async def mutate() -> UUID:
        async with db.transaction(principal.scope) as session:
            found = await idempotency.find(session, principal, "k", input_hash=b"input")
            if found is None:
                found = uuid7()
                await idempotency.keep(session, principal, "k", input_hash=b"input", object_id=found, at=NOON)
            return found

    assert len(set(await asyncio.gather(*(mutate() for _ in range(8))))) == 1


@pytest.mark.parametrize("key", ["", "\x00", "\ud800", "k" * 256])
async def test_an_idempotency_key_that_cannot_be_kept_is_refused(db: Database, key: str) -> None:
    async with db.transaction("operator") as session:
        with pytest.raises(InvalidInput):
            await idempotency.find(session, make.operator(), key, input_hash=b"")

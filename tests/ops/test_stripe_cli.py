"""`vitals stripe` as the operator types it: a secret goes in, and never comes out."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from uuid import UUID

import pytest
from click.testing import CliRunner, Result
from sqlalchemy import select

from domain.access.models import AuditEntry
from domain.core.db import Database
from domain.core.settings import Settings
from domain.stripe import endpoints
from domain.stripe.models import State, StripeEvent
from domain.stripe.sealing import Seal
from domain.stripe.service import Receiver
from ops import secret_keys
from ops.cli import main
from tests import make
from tests import stripe_bodies as bodies
from tests.make import NOON
from tests.stripe_bodies import SECRET, charge, event, thin

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER = "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="
NEW = "whsec_the_new_one_of_them"
UNFIT = "Error: A signing secret of Stripe's has 16 to 200 visible characters: whsec_….\n"
Run = Callable[..., Awaitable[Result]]


@pytest.fixture
def run(settings: Settings, tmp_path: Path) -> Run:
    """Runs `vitals stripe`, in a thread since it has an event loop of its own; `secret` is its input."""

    async def run(*arguments: object, secret: str = "", keys: str = KEY, **env: str) -> Result:
        environment = {
            "DATABASE_URL": settings.database_url,
            "VITALS_DATA": str(tmp_path),
            "VITALS_SECRET_KEYS": keys,
        }
        texts = ["stripe", *(str(one) for one in arguments)]
        call = CliRunner().invoke
        return await asyncio.to_thread(call, main, texts, input=secret + "\n", env={**environment, **env})

    return run


async def added(run: Run, *arguments: str) -> UUID:
    told = await run("add", *arguments, secret=SECRET)
    assert told.exit_code == 0, told.output
    path, _, key = told.output.strip().partition("?endpoint=")
    assert path == "/v1/events/stripe"
    return UUID(key)


async def audited(db: Database) -> list[str]:
    async with db.read("operator") as session:
        return list(await session.scalars(select(AuditEntry.action).order_by(AuditEntry.id)))


async def test_an_endpoint_is_made_listed_rotated_and_removed(run: Run, db: Database) -> None:
    account = await make.account(db)
    own = await added(run, "--account", account.external_id)
    platform = await added(run)
    listed = json.loads((await run("list", "--json")).output)
    assert [(one["id"], one["account"], one["events"]) for one in listed] == [
        (str(own), account.external_id, {}),
        (str(platform), None, {}),
    ]
    rotated = await run("rotate", own, "--overlap-hours", 1, secret=NEW)
    assert rotated.output.startswith("The old secret is good until ")
    assert (await endpoints.find(db, own, Seal(KEY), at=NOON)).secrets[0] == NEW
    assert (await run("remove", own)).output == f"{own} is removed.\n"
    assert [one["id"] for one in json.loads((await run("list", "--json")).output)] == [str(platform)]
    again = await run("remove", own)
    assert (again.exit_code, again.output) == (1, f"Error: There is no Stripe endpoint {own}.\n")
    acts = ["created", "created", "rotated", "removed"]
    assert await audited(db) == [f"stripe_endpoint.{act}" for act in acts]


async def test_a_secret_may_come_from_the_environment_and_is_never_printed(run: Run, db: Database) -> None:
    made = await run("add", STRIPE_WEBHOOK_SECRET=SECRET)
    assert made.exit_code == 0
    outputs = [made, await run("list"), await run("list", "--json"), await run("events")]
    assert [SECRET in told.output for told in outputs] == [False] * 4
    assert "--secret" not in (await run("add", "--help")).output


@pytest.mark.parametrize(
    ("arguments", "secret", "keys", "told"),
    [
        ((), "short", KEY, UNFIT),
        ((), "", KEY, UNFIT),
        (("--account", "nobody"), SECRET, KEY, "Error: There is no account nobody.\n"),
        ((), SECRET, "", "Error: VITALS_SECRET_KEYS is not set: it takes 32 random bytes in URL-safe base64, "
         "several with commas between.\n"),
    ],
)  # fmt: skip
async def test_what_cannot_be_made_is_said_plainly_and_nothing_is_made(
    run: Run, arguments: tuple[str, ...], secret: str, keys: str, told: str
) -> None:
    refused = await run("add", *arguments, secret=secret, keys=keys)
    assert (refused.exit_code, refused.output) == (1, told)
    assert json.loads((await run("list", "--json")).output) == []


async def test_accounts_are_mapped_one_by_one_or_from_a_file_and_all_or_none(
    run: Run, db: Database, tmp_path: Path
) -> None:
    one, other = await make.account(db), await make.account(db)
    assert (await run("map", "acct_1", one.external_id)).exit_code == 0
    file = tmp_path / "accounts.csv"
    file.write_text(f"acct_1,{other.external_id}\nacct_2,nobody\n")
    assert (await run("map", "--file", file)).output == "Error: There is no account nobody.\n"
    assert (await run("accounts")).output == f"acct_1                    {one.external_id}\n"
    file.write_text(f"acct_1,{other.external_id}\nacct_2,{one.external_id}\n")
    assert (await run("map", "--file", file)).exit_code == 0
    assert json.loads((await run("accounts", "--json")).output) == [
        {"stripe_account": "acct_1", "account": other.external_id},
        {"stripe_account": "acct_2", "account": one.external_id},
    ]
    assert (await run("unmap", "acct_1")).exit_code == 0
    assert (await run("unmap", "acct_1")).exit_code == 1
    assert (await run("map", "cus_1", one.external_id)).exit_code == 1
    assert (await run("map", "acct_3")).exit_code == 2
    file.write_text("acct_1\n")
    assert f"{file} line 1 must be" in (await run("map", "--file", file)).output


async def test_events_are_listed_by_state_and_alerts_of_health_with_what_they_say(
    run: Run, db: Database, worker_db: Database
) -> None:
    platform = await endpoints.find(db, await added(run), Seal(KEY), at=NOON)
    receiver, alert = Receiver(db, Settings()), thin(id="evt_health")
    for made in (event("charge.succeeded", charge(), id="evt_1", account="acct_1"), alert):
        await receiver.receive(platform, bodies.body(made), at=NOON)
    async with worker_db.transaction() as session:
        row = await session.get_one(StripeEvent, (platform.id, "evt_health"))
        row.state = State.TAKEN
        row.payload = bodies.body(alert | {"data": {"summary": "More errors than usual."}})
    (unmapped,) = json.loads((await run("events", "--state", "unmapped", "--json")).output)
    assert (unmapped["id"], unmapped["stripe_account"], unmapped["health"]) == ("evt_1", "acct_1", None)
    (found,) = json.loads((await run("events", "--health", "--json")).output)
    assert found["health"] == {"summary": "More errors than usual."}
    assert "More errors than usual." in (await run("events")).output
    assert "1 taken, 1 unmapped" in (await run("list")).output


async def test_secrets_are_sealed_again_with_a_new_key(run: Run, db: Database) -> None:
    key = await added(run)
    assert (await run("reseal", keys=f"{OTHER},{KEY}")).output == "1 endpoints resealed.\n"
    assert (await endpoints.find(db, key, Seal(OTHER), at=NOON)).secrets == (SECRET,)


def modes(folder: Path) -> list[int]:
    return [file.stat().st_mode & 0o777 for file in folder.iterdir()]


async def test_the_key_of_a_data_directory_is_made_once_for_its_owner_and_adopted(
    run: Run, db: Database, tmp_path: Path
) -> None:
    key = secret_keys.ensure(tmp_path)
    assert secret_keys.ensure(tmp_path) == key
    assert modes(tmp_path) == [0o600]
    made = await run("add", secret=SECRET, keys="")
    assert made.exit_code == 0
    endpoint = UUID(made.output.strip().partition("=")[2])
    assert (await endpoints.find(db, endpoint, Seal(key), at=NOON)).secrets == (SECRET,)

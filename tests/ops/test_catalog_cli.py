"""`vitals catalog` and `vitals keys` as the operator types them."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from domain.access import service as access
from domain.access.models import PrincipalKind, Unauthenticated
from domain.core.db import Database
from domain.core.settings import APP
from ops.cli import main
from tests import make
from tests.conftest import Cluster
from tests.make import NOON

DOCUMENT = """\
accounts:
- external_id: shop
  name: Shop
  country: BR
  currency: BRL
  time_zone: America/Sao_Paulo
services:
- code: checkout
  name: Checkout
partners:
- code: acquirer
  name: Acquirer
  kind: ACQUIRER
dependencies:
- account: shop
  partner: acquirer
  traffic_share: 0.25
- account: shop
  service: checkout
  traffic_share: 1.0
"""

Vitals = Callable[..., Awaitable[Result]]
Write = Callable[[str], str]


@pytest.fixture
def vitals(cluster: Cluster, database: str, clean: None) -> Vitals:
    """Runs the command line, in a thread since it has an event loop of its own."""
    environment = {"DATABASE_URL": cluster.url(APP, database)}

    async def run(*arguments: str) -> Result:
        return await asyncio.to_thread(CliRunner().invoke, main, arguments, env=environment)

    return run


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the catalogue's file; gives its path."""

    def write(text: str) -> str:
        file = tmp_path / "catalogue.yaml"
        file.write_text(text)
        return str(file)

    return write


async def test_apply_says_what_it_did_and_export_gives_it_back(vitals: Vitals, write: Write) -> None:
    renamed = DOCUMENT.replace("name: Shop", "name: The shop")

    first = await vitals("catalog", "apply", write(DOCUMENT))
    second = await vitals("catalog", "apply", write(renamed))
    exported = await vitals("catalog", "export")

    assert (first.exit_code, second.exit_code) == (0, 0)
    assert first.output.splitlines() == [
        "created accounts: shop",
        "created services: checkout",
        "created partners: acquirer",
        "created dependencies: shop on partner acquirer",
        "created dependencies: shop on service checkout",
        "accounts: 1 created, 0 updated, 0 unchanged",
        "services: 1 created, 0 updated, 0 unchanged",
        "partners: 1 created, 0 updated, 0 unchanged",
        "dependencies: 2 created, 0 updated, 0 unchanged",
    ]
    assert second.output.splitlines() == [
        "updated accounts: shop (name)",
        "accounts: 0 created, 1 updated, 0 unchanged",
        "services: 0 created, 0 updated, 1 unchanged",
        "partners: 0 created, 0 updated, 1 unchanged",
        "dependencies: 0 created, 0 updated, 2 unchanged",
    ]
    assert exported.output == renamed


async def test_apply_prints_changes_as_json(vitals: Vitals, write: Write) -> None:
    result = await vitals("catalog", "apply", write(DOCUMENT), "--json")

    assert json.loads(result.output)[0] == {
        "kind": "accounts",
        "key": "shop",
        "outcome": "CREATED",
        "fields": [],
    }


async def test_a_bad_catalogue_ends_with_an_error_that_names_every_line(vitals: Vitals, write: Write) -> None:
    bad = DOCUMENT.replace("country: BR", "country: XX").replace("kind: ACQUIRER", "kind: SHOP")

    unfit = await vitals("catalog", "apply", write(bad))
    dangling = await vitals("catalog", "apply", write(DOCUMENT.replace("account: shop", "account: shops")))

    assert (unfit.exit_code, dangling.exit_code) == (1, 1)
    assert [line.split(" must ")[0] for line in unfit.stderr.splitlines()] == [
        "Error: catalogue.yaml line 2: accounts[0].country",
        "catalogue.yaml line 11: partners[0].kind",
    ]
    assert dangling.stderr.splitlines()[0] == (
        "Error: catalogue.yaml line 15: dependencies[0].account names shops,"
        " which is neither there nor in this catalogue"
    )
    assert (await vitals("catalog", "export")).output == "{}\n"


async def test_a_key_is_printed_once_and_works_until_it_is_revoked(vitals: Vitals, db: Database) -> None:
    account = await make.account(db)

    made = await vitals("keys", "create", "shop's dashboard", "--account", account.external_id)
    text = made.stdout.strip()
    principal = await access.identify(db, text, NOON)
    prefix = principal.subject.removeprefix("key:")
    listed = await vitals("keys", "list")
    listed_json = await vitals("keys", "list", "--json")
    ended = await vitals("keys", "revoke", prefix)
    again = await vitals("keys", "revoke", prefix)

    assert (principal.kind, principal.account_id) == (PrincipalKind.MERCHANT, account.id)
    assert listed.output.splitlines()[1].split() == [
        prefix, "MERCHANT", "valid", "2026-11-23T12:00:00Z", "shop's", "dashboard",
    ]  # fmt: skip
    assert json.loads(listed_json.output)[0]["owner_id"] == str(account.id)
    secret = text.split("_", 2)[2]
    assert all(secret not in result.output for result in (listed, listed_json, ended))
    assert (ended.exit_code, again.output) == (0, ended.output)
    with pytest.raises(Unauthenticated):
        await access.identify(db, text, NOON)


async def test_a_key_is_made_for_each_kind_with_the_scopes_asked_for(vitals: Vitals, db: Database) -> None:
    partner = await make.partner(db)

    results = [
        await vitals("keys", "create", "key", *arguments, "--json")
        for arguments in (
            ("--operator", "--scope", "accounts:read", "--scope", "status:read"),
            ("--ingest", "--days", "30"),
            ("--partner", partner.code),
        )
    ]

    described = [json.loads(result.stdout) for result in results]
    assert [one["kind"] for one in described] == ["OPERATOR", "INGEST", "PARTNER"]
    assert described[0]["scopes"] == ["accounts:read", "status:read"]
    assert [one["expires_at"] is None for one in described] == [True, False, True]
    assert [(await access.identify(db, one["key"], NOON)).name for one in described] == ["key"] * 3


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ((), 2, "Error: Give one of --operator, --ingest, --account and --partner."),
        (("--operator", "--ingest"), 2, "Error: Give one of --operator, --ingest, --account and --partner."),
        (("--account", "nobody"), 1, "Error: There is no account nobody."),
        (("--partner", "nobody"), 1, "Error: There is no service or partner nobody."),
        (
            ("--ingest", "--scope", "accounts:read"),
            1,
            "Error: A key of kind INGEST cannot have accounts:read;"
            " its scopes are status:write, telemetry:write.",
        ),
    ],
)
async def test_a_key_that_cannot_be_made_is_refused(
    vitals: Vitals, arguments: tuple[str, ...], status: int, message: str
) -> None:
    result = await vitals("keys", "create", "key", *arguments)

    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.splitlines()[-1] == message
    assert json.loads((await vitals("keys", "list", "--json")).output) == []


async def test_a_key_that_does_not_exist_cannot_be_revoked(vitals: Vitals) -> None:
    result = await vitals("keys", "revoke", "unknown")

    assert (result.exit_code, result.stderr) == (
        1,
        "Error: There is no API key with the prefix unknown.\n",
    )

"""What `vitals up` prepares: credentials that work, and a demonstration that is loaded once."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import func, select

from domain.access import service as access
from domain.access.credentials import Credential
from domain.access.models import ApiKey, PrincipalKind
from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.model import Base
from domain.core.settings import Settings
from domain.telemetry import blocks, rollups
from domain.telemetry.models import IngestBatch, IngestLog, Minute, Rollup
from ops import credentials, demo
from ops.credentials import Credentials
from ops.replaying.simulated import State, minute_of
from tests import make

Prepare = Callable[..., Awaitable[Credentials]]


@pytest.fixture
def prepare(api: str, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Prepare:
    """Prepares as `vitals up` does, with a short history; gives the credentials."""
    monkeypatch.setattr(demo, "DAYS", 0.2)
    monkeypatch.setattr(demo, "FINE", timedelta(hours=1))

    async def run(*, demo_set: bool = False) -> Credentials:
        await asyncio.to_thread(demo.prepare, settings, f"{api}/graphql", tmp_path, demo=demo_set)
        found = credentials.load(tmp_path)
        assert found is not None
        return found

    return run


async def count(db: Database, table: type[Base]) -> int:
    async with db.read("operator") as session:
        return await session.scalar(select(func.count()).select_from(table)) or 0


async def test_an_empty_database_gets_the_keys_of_operator_and_ingest(
    prepare: Prepare, db: Database, tmp_path: Path
) -> None:
    found = await prepare()

    file = tmp_path / "credentials.json"
    assert file.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(file.read_text())) == ["graphql", "admin", "ingest", "accounts", "partners"]
    assert (found.accounts, found.partners) == ([], [])
    kinds = [(await access.identify(db, key, datetime.now(UTC))).kind for key in (found.admin, found.ingest)]
    assert kinds == [PrincipalKind.OPERATOR, PrincipalKind.INGEST]
    assert await count(db, Account) == 0
    assert not (tmp_path / demo.STATE).exists()


async def test_keys_are_made_once_and_only_what_no_longer_works_is_replaced(
    prepare: Prepare, db: Database
) -> None:
    first = await prepare()
    second = await prepare()
    async with db.transaction("operator") as session:
        prefix = Credential.parse(first.ingest).prefix
        await access.revoke(session, prefix, by="test", at=datetime.now(UTC))

    third = await prepare()

    assert second == first
    assert third.admin == first.admin
    assert third.ingest != first.ingest
    assert await count(db, ApiKey) == 3


async def test_the_address_follows_the_port(prepare: Prepare, tmp_path: Path) -> None:
    first = await prepare()
    credentials.save(tmp_path, msgspec.structs.replace(first, graphql="http://127.0.0.1:1/graphql"))

    assert await prepare() == first


async def test_tenants_get_keys_that_see_themselves_alone(prepare: Prepare, db: Database) -> None:
    group = await make.account(db, external_id="group")
    shop = await make.account(db, external_id="shop", parent=group)
    partner = await make.partner(db, code="acquirer")

    found = await prepare()

    assert [(one.id, one.name) for one in found.accounts] == [(of("Account", shop.id), shop.name)]
    assert [(one.id, one.name) for one in found.partners] == [(of("Partner", partner.id), partner.name)]
    merchant = await access.identify(db, found.accounts[0].key, datetime.now(UTC))
    assert merchant.account_ids == (shop.id,)
    assert (await access.identify(db, found.partners[0].key, datetime.now(UTC))).partner_id == partner.id


def of(kind: str, key: object) -> str:
    return base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("=")


async def points(worker_db: Database) -> int:
    """How many cells the blocks of minutes have."""
    async with worker_db.read() as session:
        rows = (await session.scalars(select(Minute))).all()
    return len(blocks.decode([row.cells for row in rows], [row.shard for row in rows]))


async def test_a_demonstration_is_folded_when_it_is_prepared_and_loaded_once(
    prepare: Prepare, db: Database, worker_db: Database, tmp_path: Path
) -> None:
    found = await prepare(demo_set=True)

    assert len(found.accounts) == 3
    assert len(found.partners) == 3
    assert await count(worker_db, IngestLog) == 0
    async with worker_db.read() as session:
        assert await rollups.waiting(session, datetime.now(UTC)) == 0
    loaded = await points(worker_db)
    assert loaded > 1000
    assert await count(worker_db, Rollup) > 0
    state = State.load(tmp_path / demo.STATE)
    assert state is not None
    assert state.sent_until == state.began_at - timedelta(hours=2)
    batches = await count(worker_db, IngestBatch)

    assert await prepare() == found
    assert await prepare(demo_set=True) == found

    assert await count(worker_db, IngestBatch) == batches
    assert State.load(tmp_path / demo.STATE) == state


async def test_a_loading_that_was_cut_off_is_taken_up_again(
    prepare: Prepare, worker_db: Database, tmp_path: Path
) -> None:
    await prepare(demo_set=True)
    file = tmp_path / demo.STATE
    state = State.load(file)
    assert state is not None
    loaded = await points(worker_db)
    msgspec.structs.replace(state, sent_until=None).save(file)

    await prepare()

    assert State.load(file) == state
    assert await points(worker_db) == loaded


async def test_a_demonstration_of_another_database_is_forgotten(
    prepare: Prepare, db: Database, tmp_path: Path
) -> None:
    now = minute_of(datetime.now(UTC))
    file = tmp_path / demo.STATE
    State(profile="small", seed=1, began_at=now, days=1.0, sent_until=now).save(file)
    credentials.save(tmp_path, Credentials("http://127.0.0.1:1/graphql", "vk_old", "vk_old", [], []))

    await prepare()

    assert not file.exists()
    assert await count(db, Account) == 0


async def test_no_key_is_printed(prepare: Prepare, capfd: pytest.CaptureFixture[str]) -> None:
    found = await prepare(demo_set=True)

    said = "".join(capfd.readouterr())
    keys = [found.admin, found.ingest, *(one.key for one in (*found.accounts, *found.partners))]
    assert not [key for key in keys if key in said]

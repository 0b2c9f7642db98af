"""What a fresh installation gets: keys in `credentials.json` and, where it is a demonstration, a small world.

Called each time the API is ready: what is there already, and works, stays as it is.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import click
import msgspec
from sqlalchemy import exists, func, select
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from api.graphql import ids
from domain.access import service as access
from domain.access.credentials import Credential
from domain.access.models import PrincipalKind, Unauthenticated
from domain.access.service import Holder as Owner
from domain.catalog.models import Account, Partner
from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from domain.telemetry import fold as folding
from domain.telemetry import rollups
from domain.telemetry.models import IngestLog
from ops import credentials, simulate
from ops.credentials import Credentials, Holder
from ops.operator import actor
from ops.replaying import sender
from ops.replaying.pace import Progress
from ops.replaying.sender import Sender
from ops.replaying.simulated import State, World, minute_of

STATE = "simulation.json"
"""Beside the credentials: a simulation that goes on with each start (`vitals simulate --live --state`)."""
PROFILE, SEED = "small", 20
DAYS, FINE = 8.0, timedelta(hours=6)
"""A day of whatever zone is whole seven times in it, as expecting its volume needs."""
MOST_TENANTS = 10
_PATIENCE_S = 120.0


class NotFolded(Exception):
    """The history lies in the log, but does not become minutes."""


def prepare(settings: Settings, graphql_url: str, data: Path, *, demo: bool) -> None:
    """Write the credentials, and with `demo` load the demonstration, so that all of it can be queried.

    A demonstration whose loading was cut off is loaded now; one that belonged to another database is
    forgotten.
    """
    state = _state(settings, data, demo=demo)
    found = asyncio.run(_with_keys(settings, credentials.load(data), graphql_url, state))
    credentials.save(data, found)
    if state is not None and state.sent_until is None:
        _load(state, found, data / STATE)
        asyncio.run(fold_all(settings))


def _state(settings: Settings, data: Path, *, demo: bool) -> State | None:
    """The demonstration's state, written before anything is loaded."""
    file = data / STATE
    kept = State.load(file)
    old = credentials.load(data)
    if kept is not None and not (old and asyncio.run(_works(settings, old.admin))):
        file.unlink()
        kept = None
    if kept is None and demo:
        now = minute_of(datetime.now(UTC))
        kept = State(profile=PROFILE, seed=SEED, began_at=now, days=DAYS, fine=FINE, is_showcase=True)
        kept.save(file)
    return kept


async def _works(settings: Settings, key: str) -> bool:
    db = Database(settings.database_url, APP, pool_size=1)
    try:
        async with db.read("operator") as session:
            return await _is_valid(session, key)
    finally:
        await db.dispose()


async def _is_valid(session: AsyncSession, key: str) -> bool:
    try:
        await access.authenticate(session, Credential.parse(key), at=datetime.now(UTC))
    except Unauthenticated:
        return False
    return True


async def _with_keys(
    settings: Settings, old: Credentials | None, graphql_url: str, state: State | None
) -> Credentials:
    """Credentials that all work; with a demonstration its catalogue is applied first. One transaction."""
    db = Database(settings.database_url, APP, pool_size=1)
    try:
        async with db.transaction("operator") as session:
            if state is not None and state.sent_until is None:
                await simulate.apply_catalogue(session, World(state).spec, at=datetime.now(UTC))
            keys = _Keys(session, old)
            return Credentials(
                graphql=graphql_url,
                admin=await keys.plain("admin", PrincipalKind.OPERATOR),
                ingest=await keys.plain("ingest", PrincipalKind.INGEST),
                accounts=[await keys.account(one) for one in await _merchants(session)],
                partners=[await keys.partner(one) for one in await _partners(session)],
            )
    finally:
        await db.dispose()


@dataclass(frozen=True)
class _Keys:
    """Keys for holders: the old one where it works, or a new one."""

    session: AsyncSession
    old: Credentials | None

    async def plain(self, name: str, kind: PrincipalKind) -> str:
        old: str | None = getattr(self.old, name, None)
        return await self._key(old, name, Owner(kind))

    async def account(self, row: Account) -> Holder:
        owner = Owner(PrincipalKind.MERCHANT, account_id=row.id)
        return await self._held("Account", row.id, row.name, owner)

    async def partner(self, row: Partner) -> Holder:
        owner = Owner(PrincipalKind.PARTNER, partner_id=row.id)
        return await self._held("Partner", row.id, row.name, owner)

    async def _held(self, kind: str, key: UUID, name: str, owner: Owner) -> Holder:
        global_id = ids.encode(kind, key)
        holders = [*self.old.accounts, *self.old.partners] if self.old else []
        old = next((one.key for one in holders if one.id == global_id), None)
        return Holder(id=global_id, name=name, key=await self._key(old, name, owner))

    async def _key(self, old: str | None, name: str, owner: Owner) -> str:
        if old is not None and await _is_valid(self.session, old):
            return old
        _, text = await access.create_key(
            self.session, name=f"first key of {name}"[:200], holder=owner, by=actor(), at=datetime.now(UTC)
        )
        return text


async def _merchants(session: AsyncSession) -> Sequence[Account]:
    """The first accounts that have none below them, so that none of them sees another."""
    below = aliased(Account)
    has_children = exists().where(below.parent_id == Account.id)
    found = await session.scalars(
        select(Account).where(~has_children).order_by(Account.external_id).limit(MOST_TENANTS)
    )
    return found.all()


async def _partners(session: AsyncSession) -> Sequence[Partner]:
    return (await session.scalars(select(Partner).order_by(Partner.code).limit(MOST_TENANTS))).all()


def _load(state: State, found: Credentials, file: Path) -> None:
    click.echo("loading the demonstration")
    with sender.connect(found.url, found.ingest) as client:
        sending = Sender(client, say=lambda text: click.echo(text, err=True))
        simulate.send_history(state, sending, Progress("points"), file=None)
    msgspec.structs.replace(state, sent_until=World(state).live_from).save(file)


async def fold_all(settings: Settings) -> None:
    """Return when all that was taken in is folded and rolled up, by us or by the workers; NotFolded else."""
    db = Database(settings.worker_database_url, WORKER, pool_size=1)
    deadline = time.monotonic() + _PATIENCE_S
    try:
        while await _left(db):
            at = datetime.now(UTC)
            if not await folding.fold(db, at) and not await rollups.roll_up(db, at):
                if time.monotonic() > deadline:
                    raise NotFolded(f"The history was not folded in {_PATIENCE_S:g} s.")
                await asyncio.sleep(0.1)  # another process has the lock
    finally:
        await db.dispose()


async def _left(db: Database) -> int:
    """Batches and windows that wait."""
    async with db.read() as session:
        batches = await session.scalar(select(func.count()).select_from(IngestLog))
        return (batches or 0) + await rollups.waiting(session, datetime.now(UTC))

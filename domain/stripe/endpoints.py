"""Makes, rotates and removes endpoints and maps accounts; each leaves an entry in the audit log."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access import service as access
from domain.catalog import queries as catalog
from domain.catalog.models import AccountNotFound
from domain.core.db import Database
from domain.core.errors import InvalidInput, NotFound
from domain.core.ids import uuid7
from domain.stripe import queries
from domain.stripe.models import EndpointNotFound, SecretUnfit, StripeAccount, StripeEndpoint
from domain.stripe.sealing import Seal
from domain.telemetry.senders import Sender

OVERLAP = timedelta(hours=24)
"""So long Stripe may sign with the old secret as well, once a new one was made."""
_SECRET = re.compile(r"[\x21-\x7e]{16,200}")
_ACCOUNT = re.compile(r"acct_[A-Za-z0-9]{1,100}")


@dataclass(frozen=True)
class Endpoint:
    """An endpoint with its secrets open; without `account_id` it is the platform's."""

    id: UUID
    account_id: UUID | None
    secrets: tuple[str, ...]
    takes_tests: bool = False

    @property
    def scope(self) -> str:
        """The scope of transactions with its own rows and events, and nobody's accounts."""
        return scope(self.id)

    @property
    def sender(self) -> Sender:
        return sender(self.id, self.account_id)


def scope(endpoint_id: UUID) -> str:
    return f"stripe:{endpoint_id}"


def sender(endpoint_id: UUID, account_id: UUID | None) -> Sender:
    """As whom it writes telemetry: its account with all below it, or anybody, as an ingest key does."""
    whose = f"account:{account_id}" if account_id else f"ingest:{endpoint_id}"
    return Sender(whose, scope(endpoint_id))


async def find(db: Database, key: UUID, seal: Seal, *, at: datetime) -> Endpoint:
    """The endpoint with a row; raises EndpointNotFound, SecretUnreadable."""
    async with db.read(scope(key)) as session:
        row = await queries.endpoint(session, key)
    secrets = tuple(seal.open(one) for one in row.sealed(at))
    return Endpoint(row.id, row.account_id, secrets, row.takes_tests)


def of_settings(secrets: str) -> Endpoint:
    """The platform's endpoint whose secrets stand in the settings, with commas between."""
    found = tuple(one.strip() for one in secrets.split(",") if one.strip())
    if not found:
        raise EndpointNotFound("of the platform: give ?endpoint=…")
    return Endpoint(queries.OF_SETTINGS, None, found)


async def add(
    session: AsyncSession,
    secret: str,
    *,
    account: str | None,
    takes_tests: bool,
    seal: Seal,
    by: str,
    at: datetime,
) -> StripeEndpoint:
    """A new endpoint, of the account with that external id or else the platform's."""
    _require_fit(secret)
    row = StripeEndpoint(
        id=uuid7(),
        account_id=await _account_id(session, account) if account else None,
        secret=seal.seal(secret),
        takes_tests=takes_tests,
        created_at=at,
    )
    session.add(row)
    await session.flush()
    await access.audit(session, "stripe_endpoint.created", row.id, by=by, at=at)
    return row


async def rotate(
    session: AsyncSession, key: UUID, secret: str, *, overlap: timedelta, seal: Seal, by: str, at: datetime
) -> StripeEndpoint:
    """Take the new secret; the one before stays good for `overlap`. Raises EndpointNotFound."""
    _require_fit(secret)
    row = await queries.endpoint(session, key, lock=True)
    row.old_secret, row.old_secret_until = row.secret, at + overlap
    row.secret = seal.seal(secret)
    await session.flush()
    await access.audit(session, "stripe_endpoint.rotated", row.id, by=by, at=at)
    return row


async def remove(session: AsyncSession, key: UUID, *, by: str, at: datetime) -> None:
    """Take nothing more there; its events stay as they are. Raises EndpointNotFound."""
    row = await queries.endpoint(session, key, lock=True)
    row.removed_at = at
    await session.flush()
    await access.audit(session, "stripe_endpoint.removed", row.id, by=by, at=at)


async def reseal(session: AsyncSession, *, seal: Seal, by: str, at: datetime) -> int:
    """Seal all secrets with the first key, so that the others can be given up; how many endpoints."""
    rows = (await session.scalars(select(StripeEndpoint).with_for_update())).all()
    for row in rows:
        row.secret = seal.again(row.secret)
        row.old_secret = seal.again(row.old_secret) if row.old_secret else None
    await session.flush()
    await access.audit(session, "stripe_endpoints.resealed", by=by, at=at)
    return len(rows)


async def map_accounts(session: AsyncSession, pairs: Mapping[str, str], *, by: str, at: datetime) -> None:
    """Say which of our accounts (external ids) Stripe's are; all of them or, where one is unfit, none."""
    unfit = [theirs for theirs in pairs if not _ACCOUNT.fullmatch(theirs)]
    if unfit:
        raise InvalidInput(f"{unfit[0]!r:.60} is no account of Stripe's, such as acct_1032D82eZvKYlo2C.")
    found = await catalog.accounts_by_external_id(session, sorted(set(pairs.values())))
    if missing := sorted(set(pairs.values()) - found.keys()):
        raise AccountNotFound(missing[0])
    for theirs, ours in sorted(pairs.items()):
        row = insert(StripeAccount).values(id=theirs, account_id=found[ours].id, created_at=at)
        await session.execute(
            row.on_conflict_do_update(index_elements=["id"], set_={"account_id": row.excluded.account_id})
        )
        await access.audit(session, "stripe_account.mapped", found[ours].id, by=by, at=at)


async def unmap(session: AsyncSession, stripe_account: str, *, by: str, at: datetime) -> None:
    """Forget whose it is; what was taken in stays. Raises NotFound."""
    gone = await session.execute(
        delete(StripeAccount).where(StripeAccount.id == stripe_account).returning(StripeAccount.account_id)
    )
    account_id = gone.scalar()
    if account_id is None:
        raise NotFound("mapped account of Stripe's", stripe_account)
    await access.audit(session, "stripe_account.unmapped", account_id, by=by, at=at)


async def _account_id(session: AsyncSession, external_id: str) -> UUID:
    found = await catalog.accounts_by_external_id(session, [external_id])
    if external_id not in found:
        raise AccountNotFound(external_id)
    return found[external_id].id


def _require_fit(secret: str) -> None:
    if not _SECRET.fullmatch(secret):
        raise SecretUnfit("A signing secret of Stripe's has 16 to 200 visible characters: whsec_….")

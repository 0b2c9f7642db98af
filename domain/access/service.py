"""Makes, proves and revokes API keys. Every privileged act leaves an entry in the audit log."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from sqlalchemy import Uuid, func, insert, or_, select, update
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access import queries
from domain.access.credentials import Credential
from domain.access.models import ApiKey, AuditEntry, PrincipalKind, Unauthenticated
from domain.access.principal import Principal
from domain.access.scopes import ALLOWED, granted
from domain.core.db import Database
from domain.core.errors import InvalidInput
from domain.core.ids import uuid7
from domain.core.texts import text_flaw


@dataclass(frozen=True)
class Holder:
    """Whom a key speaks for: one account with all below it, one partner, or (by kind alone) neither."""

    kind: PrincipalKind
    account_id: UUID | None = None
    partner_id: UUID | None = None

    def __post_init__(self) -> None:
        owned = (self.account_id is not None, self.partner_id is not None)
        if owned != (self.kind is PrincipalKind.MERCHANT, self.kind is PrincipalKind.PARTNER):
            raise InvalidInput(
                "A key of kind MERCHANT has an account, one of kind PARTNER a partner, others neither.",
                path=("ownerId",),
            )


async def create_key(
    session: AsyncSession,
    *,
    name: str,
    holder: Holder,
    by: str,
    at: datetime,
    scopes: Iterable[str] | None = None,
    expires_at: datetime | None = None,
    request_id: str = "",
) -> tuple[ApiKey, str]:
    """The new key and its text, which is nowhere kept and cannot be had again.

    Without `scopes` it has those that its kind has by default. Raises InvalidInput, ScopeNotAllowed.
    """
    if flaw := text_flaw(name):
        raise InvalidInput(f"The name of a key {flaw}.", path=("name",))
    if expires_at is not None and expires_at <= at:
        raise InvalidInput("The key would have expired already.", path=("expiresAt",))
    credential = Credential.make()
    key = ApiKey(
        id=uuid7(),
        name=name,
        prefix=credential.prefix,
        secret_hash=credential.secret_hash,
        kind=holder.kind,
        account_id=holder.account_id,
        partner_id=holder.partner_id,
        scopes=granted(holder.kind, scopes),
        created_at=at,
        expires_at=expires_at,
    )
    session.add(key)
    await session.flush()
    await audit(session, "api_key.created", key.id, by=by, at=at, request_id=request_id)
    return key, credential.text


async def revoke(
    session: AsyncSession, prefix: str, *, by: str, at: datetime, request_id: str = ""
) -> ApiKey:
    """Make a key useless for ever; one that is revoked stays as it was. Raises ApiKeyNotFound."""
    key = await queries.get(session, prefix, lock=True)
    if key.revoked_at is None:
        key.revoked_at = at
        await session.flush()
        await audit(session, "api_key.revoked", key.id, by=by, at=at, request_id=request_id)
    return key


async def identify(db: Database, text: str, at: datetime) -> Principal:
    """Who presents this key; Unauthenticated, for every reason alike, when it is nobody.

    A door cannot know the scope before it knows the key, so this opens the transactions itself: one
    that sees this key's row alone, then, for a merchant, one of the account's own.
    """
    credential = Credential.parse(text)
    scope = f"auth:{credential.prefix}"
    async with db.read(scope) as session:
        key = await authenticate(session, credential, at=at)
    if key.is_first_use(at):
        async with db.transaction(scope) as session:
            await touch(session, key.id, at=at)
    principal = _principal(key)
    if principal.kind is not PrincipalKind.MERCHANT:
        return principal
    async with db.read(principal.scope) as session:
        return replace(principal, account_ids=tuple(await _accounts_in_scope(session)))


async def authenticate(session: AsyncSession, credential: Credential, *, at: datetime) -> ApiKey:
    """The valid key that the credential proves; the session may be in the scope `auth:<prefix>`."""
    key = await queries.with_prefix(session, credential.prefix)
    if key is None or not credential.proves(key.secret_hash) or not key.is_valid(at):
        raise Unauthenticated
    return key


async def touch(session: AsyncSession, key_id: UUID, *, at: datetime) -> None:
    """Remember the minute in which a key was last used; it never goes back."""
    minute = at.replace(second=0, microsecond=0)
    newer = or_(ApiKey.last_used_at.is_(None), ApiKey.last_used_at < minute)
    await session.execute(
        update(ApiKey).where(ApiKey.id == key_id, newer).values(last_used_at=minute),
        execution_options={"synchronize_session": False},
    )


async def audit(
    session: AsyncSession,
    action: str,
    subject_id: UUID | None = None,
    *,
    by: str,
    at: datetime,
    request_id: str = "",
) -> None:
    """Record a privileged act, such as `api_key.revoked`; the actor need not be allowed to read it."""
    entry = {"actor": by, "action": action, "subject_id": subject_id, "request_id": request_id}
    await session.execute(insert(AuditEntry).values(id=uuid7(), at=at, **entry))


def _principal(key: ApiKey) -> Principal:
    """`scopes` beyond the kind's own, were they ever in a row, give nothing."""
    return Principal(
        kind=key.kind,
        subject=f"key:{key.prefix}",
        name=key.name,
        scopes=frozenset(key.scopes) & ALLOWED[key.kind],
        key_id=key.id,
        account_id=key.account_id,
        partner_id=key.partner_id,
    )


async def _accounts_in_scope(session: AsyncSession) -> Sequence[UUID]:
    """The accounts that row security shows to this scope, so that predicates and the wall agree."""
    found = await session.scalar(select(func.scope_accounts(type_=ARRAY(Uuid))))
    return sorted(found or ())

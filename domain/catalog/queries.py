"""Finds accounts, services, partners and what depends on what; the slice's rule of who sees them."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, any_, exists, false, select, true
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.catalog.models import Account, AccountTree, Dependency, Partner, Service
from domain.core.visibility import ACCOUNT_IDS, PARTNER_ID


def visible_accounts(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see every account, merchants theirs and those below, others none."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Account.id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


def visible_services(kind: PrincipalKind) -> ColumnElement[bool]:
    """Services are the platform's: everyone with a reading key sees them."""
    return false() if kind is PrincipalKind.INGEST else true()


def visible_partners(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see every partner, a partner itself, a merchant those that its traffic runs through."""
    match kind:
        case PrincipalKind.OPERATOR:
            return true()
        case PrincipalKind.PARTNER:
            return Partner.id == PARTNER_ID
        case PrincipalKind.MERCHANT:
            return exists().where(
                Dependency.partner_id == Partner.id, Dependency.account_id == any_(ACCOUNT_IDS)
            )
        case PrincipalKind.INGEST:
            return false()


def visible_dependencies(kind: PrincipalKind) -> ColumnElement[bool]:
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Dependency.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


async def subtree(session: AsyncSession, account_id: UUID) -> Sequence[UUID]:
    """The account and all accounts below it."""
    return (
        await session.scalars(select(AccountTree.account_id).where(AccountTree.ancestor_id == account_id))
    ).all()


async def ancestors(session: AsyncSession, account_ids: Sequence[UUID]) -> dict[UUID, list[UUID]]:
    """Each account's ancestors, itself among them."""
    rows = await session.execute(
        select(AccountTree.account_id, AccountTree.ancestor_id).where(AccountTree.account_id.in_(account_ids))
    )
    found: dict[UUID, list[UUID]] = {account_id: [] for account_id in account_ids}
    for account_id, ancestor_id in rows:
        found[account_id].append(ancestor_id)
    return found


async def account(session: AsyncSession, account_id: UUID, principal: Principal) -> Account | None:
    return await session.scalar(
        select(Account).where(Account.id == account_id, visible_accounts(principal.kind)), principal.binds()
    )


async def accounts_by_external_id(session: AsyncSession, external_ids: Sequence[str]) -> dict[str, Account]:
    """Those of the accounts that the transaction's scope may see, by the platform's identifier."""
    rows = await session.scalars(select(Account).where(Account.external_id.in_(external_ids)))
    return {row.external_id: row for row in rows}


async def partner_by_code(session: AsyncSession, code: str) -> Partner | None:
    return await session.scalar(select(Partner).where(Partner.code == code))


async def service_by_code(session: AsyncSession, code: str) -> Service | None:
    return await session.scalar(select(Service).where(Service.code == code))

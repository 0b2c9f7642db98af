"""Finds accounts, services, partners and what depends on what; the slice's rule of who sees them."""

from collections.abc import Sequence
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import ColumnElement, Text, Uuid, any_, exists, false, literal, select, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession
from sqlalchemy.orm import aliased

from domain.access.models import PrincipalKind
from domain.access.principal import Principal
from domain.catalog.entries import (
    AccountEntry,
    Catalogue,
    DependencyEntry,
    PartnerEntry,
    ServiceEntry,
    field_names,
)
from domain.catalog.models import Account, AccountTree, Dependency, Partner, Service
from domain.core.model import Base
from domain.core.visibility import ACCOUNT_IDS, PARTNER_ID

T = TypeVar("T", AccountEntry, ServiceEntry, PartnerEntry)


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
    wanted = literal(list(external_ids), ARRAY(Text))
    rows = await session.scalars(select(Account).where(Account.external_id == any_(wanted)))
    return {row.external_id: row for row in rows}


async def partner_by_code(session: AsyncSession, code: str) -> Partner | None:
    return await session.scalar(select(Partner).where(Partner.code == code))


async def services_by_code(session: AsyncSession, codes: Sequence[str]) -> dict[str, Service]:
    wanted = literal(list(codes), ARRAY(Text))
    rows = await session.scalars(select(Service).where(Service.code == any_(wanted)))
    return {row.code: row for row in rows}


async def partners_by_code(session: AsyncSession, codes: Sequence[str]) -> dict[str, Partner]:
    wanted = literal(list(codes), ARRAY(Text))
    rows = await session.scalars(select(Partner).where(Partner.code == any_(wanted)))
    return {row.code: row for row in rows}


async def dependencies_of(
    session: AsyncSession, account_ids: Sequence[UUID]
) -> dict[tuple[UUID, UUID | None, UUID | None], Dependency]:
    """By account, service and partner, of which one is None."""
    wanted = literal(list(account_ids), ARRAY(Uuid))
    rows = await session.scalars(select(Dependency).where(Dependency.account_id == any_(wanted)))
    return {(row.account_id, row.service_id, row.partner_id): row for row in rows}


async def parents(session: AsyncSession) -> dict[str, str | None]:
    """The external id of every account with that of its parent."""
    parent = aliased(Account)
    statement = select(Account.external_id, parent.external_id).outerjoin(
        parent, parent.id == Account.parent_id
    )
    return {external_id: above for external_id, above in await session.execute(statement)}


async def catalogue(session: AsyncSession) -> Catalogue:
    """All that the transaction's scope may see, by external id and code; applied again it changes nothing."""
    above = await parents(session)
    accounts = (await session.scalars(select(Account).order_by(Account.external_id))).all()
    services = (await session.scalars(select(Service).order_by(Service.code))).all()
    partners = (await session.scalars(select(Partner).order_by(Partner.code))).all()
    names: dict[UUID | None, str] = {row.id: row.external_id for row in accounts}
    names.update((row.id, row.code) for row in services)
    names.update((row.id, row.code) for row in partners)
    dependencies = [
        DependencyEntry(
            account=names[row.account_id],
            service=names.get(row.service_id),
            partner=names.get(row.partner_id),
            traffic_share=row.traffic_share,
        )
        for row in await session.scalars(select(Dependency))
    ]
    return Catalogue(
        accounts=[_entry(AccountEntry, row, parent=above[row.external_id]) for row in accounts],
        services=[_entry(ServiceEntry, row) for row in services],
        partners=[_entry(PartnerEntry, row, regions=tuple(row.regions)) for row in partners],
        dependencies=sorted(dependencies, key=lambda entry: entry.key),
    )


def _entry(kind: type[T], row: Base, **others: Any) -> T:
    """Fields have the names of their columns, but for the `others`."""
    return kind(**{name: getattr(row, name) for name in field_names(kind) if name not in others}, **others)

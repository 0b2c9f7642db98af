"""Finds endpoints, whose accounts of ours Stripe's are, and events."""

from collections.abc import Sequence
from uuid import UUID

from sqlalchemy import ColumnElement, and_, exists, func, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account, AccountTree
from domain.stripe.models import (
    EndpointNotFound,
    State,
    StripeAccount,
    StripeEndpoint,
    StripeEvent,
)

OF_SETTINGS = UUID(int=0)
"""The id of the platform's endpoint that has its secrets in the settings, and no row."""


async def endpoint(session: AsyncSession, key: UUID, *, lock: bool = False) -> StripeEndpoint:
    """Raises EndpointNotFound, also for one that was removed."""
    statement = select(StripeEndpoint).where(StripeEndpoint.id == key, StripeEndpoint.removed_at.is_(None))
    found = await session.scalar(statement.with_for_update() if lock else statement)
    if found is None:
        raise EndpointNotFound(key)
    return found


async def endpoints(session: AsyncSession) -> Sequence[tuple[StripeEndpoint, str | None]]:
    """Those in use, oldest first, each with the external id of its account."""
    rows = await session.execute(
        select(StripeEndpoint, Account.external_id)
        .outerjoin(Account, Account.id == StripeEndpoint.account_id)
        .where(StripeEndpoint.removed_at.is_(None))
        .order_by(StripeEndpoint.created_at, StripeEndpoint.id)
    )
    return [(row, name) for row, name in rows]


async def counts(session: AsyncSession) -> dict[UUID, dict[State, int]]:
    """How many events of each endpoint are in which state."""
    rows = await session.execute(
        select(StripeEvent.endpoint_id, StripeEvent.state, func.count()).group_by(
            StripeEvent.endpoint_id, StripeEvent.state
        )
    )
    found: dict[UUID, dict[State, int]] = {}
    for endpoint_id, state, number in rows:
        found.setdefault(endpoint_id, {})[state] = number
    return found


async def mapped(session: AsyncSession, stripe_account: str, *, below: UUID | None) -> Account | None:
    """Our account for one of Stripe's, where it is `below` (itself among them; None: anywhere)."""
    statement = (
        select(Account)
        .join(StripeAccount, StripeAccount.account_id == Account.id)
        .where(StripeAccount.id == stripe_account)
    )
    if below is not None:
        statement = statement.where(_is_below(below, StripeAccount.account_id))
    return await session.scalar(statement)


async def mappings(session: AsyncSession) -> Sequence[tuple[str, str]]:
    """Stripe's accounts in order, each with the external id of ours."""
    rows = await session.execute(
        select(StripeAccount.id, Account.external_id)
        .join(Account, Account.id == StripeAccount.account_id)
        .order_by(StripeAccount.id)
    )
    return [(theirs, ours) for theirs, ours in rows]


async def mappable(
    session: AsyncSession, *, limit: int
) -> Sequence[tuple[StripeEvent, StripeEndpoint | None, Account]]:
    """Events that waited for a mapping which is there now, oldest first, with their endpoint and account."""
    of_endpoint = and_(StripeEndpoint.id == StripeEvent.endpoint_id, StripeEndpoint.removed_at.is_(None))
    permitted = or_(
        StripeEvent.endpoint_id == OF_SETTINGS,
        and_(StripeEndpoint.id.is_not(None), StripeEndpoint.account_id.is_(None)),
        _is_below(StripeEndpoint.account_id, StripeAccount.account_id),
    )
    rows = await session.execute(
        select(StripeEvent, StripeEndpoint, Account)
        .join(StripeAccount, StripeAccount.id == StripeEvent.stripe_account)
        .join(Account, Account.id == StripeAccount.account_id)
        .outerjoin(StripeEndpoint, of_endpoint)
        .where(StripeEvent.state == State.UNMAPPED, permitted)
        .order_by(StripeEvent.received_at)
        .limit(limit)
    )
    return [(event, endpoint_, account) for event, endpoint_, account in rows]


async def is_taken(session: AsyncSession, event_id: str, *, account_id: UUID) -> bool:
    """Whether the event counts for the account already."""
    found = exists().where(
        StripeEvent.account_id == account_id, StripeEvent.id == event_id, StripeEvent.state == State.TAKEN
    )
    return bool(await session.scalar(select(found)))


async def latest(
    session: AsyncSession, *, state: State | None = None, type_: str | None = None, limit: int
) -> Sequence[StripeEvent]:
    """The events that came last, the newest first; `type_` is how their type begins."""
    statement = select(StripeEvent).order_by(StripeEvent.received_at.desc(), StripeEvent.id).limit(limit)
    if state is not None:
        statement = statement.where(StripeEvent.state == state)
    if type_ is not None:
        statement = statement.where(StripeEvent.type.startswith(type_, autoescape=True))
    return (await session.scalars(statement)).all()


def _is_below(above: object, account: object) -> ColumnElement[bool]:
    return exists().where(AccountTree.ancestor_id == above, AccountTree.account_id == account)

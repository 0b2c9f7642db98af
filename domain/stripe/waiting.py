"""Events that waited: taken in once their account is mapped, forgotten once they cannot come again."""

from datetime import datetime, timedelta

from sqlalchemy import delete, select, tuple_
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.failures import Failures
from domain.core.settings import Settings
from domain.stripe import endpoints, events, facts, queries, writing
from domain.stripe.events import KEEP
from domain.stripe.facts import Unreadable
from domain.stripe.judging import Verdict
from domain.stripe.models import KEPT, NoEvent, State, StripeEndpoint, StripeEvent
from domain.stripe.writing import NoPlace
from domain.telemetry.columns import Columns
from domain.telemetry.placing import Registry

# An event that is taken happened at most KEEP ago, and so comes again within KEEP at most.
_FORGOTTEN_AFTER = KEEP + timedelta(days=1)
_MOST_TAKEN, _MOST_FORGOTTEN = 500, 5_000


async def take_mapped(db: Database, settings: Settings, at: datetime) -> int:
    """Take in events that waited for a mapping which is there now; how many. Safe in twos.

    Their minutes were judged without them: they are history. One that cannot be taken in stops no other.
    """
    settled, failures = 0, Failures("Some events of Stripe cannot be taken in.")
    registry = Registry(db, most_series=settings.most_series, most_sources=settings.most_sources)
    async with db.read() as session:
        waiting = await queries.mappable(session, limit=_MOST_TAKEN)
    for row, endpoint, account in waiting:
        with failures.apart(f"event {row.id}"):
            points, verdict = await _points(registry, row, endpoint, account, at=at)
            async with db.transaction() as session:
                settled += await _settle(session, row, account, verdict, points, at=at)
    failures.tell()
    return settled


async def _points(
    registry: Registry, row: StripeEvent, endpoint: StripeEndpoint | None, account: Account, *, at: datetime
) -> tuple[Columns | None, Verdict]:
    """The event's points, or why there are none."""
    try:
        event = events.parse(row.payload or b"")
        points = await writing.place(
            facts.of(event),
            account.external_id,
            happened_at=event.created_at,
            registry=registry,
            sender=endpoints.sender(row.endpoint_id, endpoint.account_id if endpoint else None),
            at=at,
        )
    except (NoEvent, NoPlace, Unreadable) as error:
        return None, Verdict(State.FAILED, str(error))
    return points, Verdict(State.TAKEN)


async def _settle(
    session: AsyncSession,
    row: StripeEvent,
    account: Account,
    verdict: Verdict,
    points: Columns | None,
    *,
    at: datetime,
) -> bool:
    """Record what became of the event, with its points; False where another has done so."""
    kept = await session.get_one(StripeEvent, (row.endpoint_id, row.id), with_for_update=True)
    if kept.state is not State.UNMAPPED:
        return False
    if points and await queries.is_taken(session, row.id, account_id=account.id):
        points, verdict = None, Verdict(State.IGNORED, "It came by another endpoint.")
    kept.state, kept.remark, kept.account_id = verdict.state, verdict.remark, account.id
    if verdict.state not in KEPT:
        kept.payload = None
    await session.flush()
    if points:
        await writing.log(session, points, is_backfill=True, at=at)
    return True


async def forget(session: AsyncSession, at: datetime) -> int:
    """Drop some of the events that came too long ago to come again; how many, 0 when none is left."""
    old = (
        select(StripeEvent.endpoint_id, StripeEvent.id)
        .where(StripeEvent.received_at < at - _FORGOTTEN_AFTER)
        .order_by(StripeEvent.received_at)
        .limit(_MOST_FORGOTTEN)
    )
    keys = [tuple(row) for row in await session.execute(old)]
    if keys:
        named = tuple_(StripeEvent.endpoint_id, StripeEvent.id).in_(keys)
        await session.execute(delete(StripeEvent).where(named))
    return len(keys)

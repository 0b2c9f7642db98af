"""Turns what a partner's status page said into incidents, each snapshot once, in order of observation.

Only a whole snapshot is believed: what it no longer lists is over; a failed fetch says nothing.
"""

import hashlib
import json
import time
from collections import deque
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Partner
from domain.core import events
from domain.core.db import Database, will_pass
from domain.core.errors import Conflict, DomainError, InvalidInput
from domain.core.failures import Failures
from domain.core.ids import uuid7
from domain.statuspages import snapshot
from domain.statuspages.incidents import apply
from domain.statuspages.models import StatusSnapshot

TRIES = 3
_BUDGET_S = 40.0
STALE = "A later snapshot was applied already."


async def receive(
    session: AsyncSession, partner_id: UUID, body: bytes, *, observed_at: datetime, at: datetime
) -> bool:
    """Keep a snapshot to be applied; whether it is new. The same one again changes nothing.

    Raises InvalidInput for what is no whole summary, Conflict for another one of the same time.
    """
    snapshot.read(body)
    values = {
        "id": uuid7(),
        "partner_id": partner_id,
        "observed_at": observed_at,
        "received_at": at,
        "body_hash": hashlib.sha256(body).digest(),
        "summary": snapshot.stored(body),
    }
    row = insert(StatusSnapshot).values(values).on_conflict_do_nothing().returning(StatusSnapshot.id)
    if (await session.execute(row)).first() is None:
        kept = await session.scalar(
            select(StatusSnapshot.body_hash).where(
                StatusSnapshot.partner_id == partner_id, StatusSnapshot.observed_at == observed_at
            )
        )
        if kept != values["body_hash"]:
            raise Conflict(f"Another snapshot of {observed_at:%FT%TZ} was received before.")
        return False
    await events.record(session, "status_snapshot.received", partner_id, at=at)
    return True


async def apply_waiting(db: Database, at: datetime) -> int:
    """Apply the snapshots that wait, of each partner the oldest first; how many. Safe in twos.

    Each has a transaction of its own, and partners take turns. One that fails is tried again by the next
    call, and put aside after TRIES; it does not stop other partners': raises all failures at last.
    """
    began, applied, failures = time.monotonic(), 0, Failures("Some status pages cannot be applied.")
    waiting = select(StatusSnapshot.partner_id).where(StatusSnapshot.applied_at.is_(None)).distinct()
    async with db.read() as session:
        partners = deque(sorted(await session.scalars(waiting)))
    while partners and time.monotonic() - began < _BUDGET_S:
        partner_id = partners.popleft()
        with failures.apart(f"partner {partner_id}"):
            if await _apply_next(db, partner_id, at=at):
                applied += 1
                partners.append(partner_id)
    failures.tell()
    return applied


async def _apply_next(db: Database, partner_id: UUID, *, at: datetime) -> bool:
    """Deal with the partner's oldest snapshot; False when there is none, or another worker is at it."""
    snapshot_id: UUID | None = None
    try:
        async with db.transaction() as session:
            row = await _oldest(session, partner_id)
            if row is None:
                return False
            snapshot_id = row.id
            await _apply(session, row, at=at)
    except Exception as error:
        if snapshot_id is None or will_pass(error):
            raise
        async with db.transaction() as session:
            await _note_failure(session, snapshot_id, error, at=at)
        raise
    return True


async def _oldest(session: AsyncSession, partner_id: UUID) -> StatusSnapshot | None:
    lock = func.pg_try_advisory_xact_lock(func.hashtext(f"statuspages:{partner_id}"))
    if not await session.scalar(select(lock)):
        return None
    return await session.scalar(
        select(StatusSnapshot)
        .where(StatusSnapshot.partner_id == partner_id, StatusSnapshot.applied_at.is_(None))
        .order_by(StatusSnapshot.observed_at)
        .limit(1)
    )


async def _apply(session: AsyncSession, row: StatusSnapshot, *, at: datetime) -> None:
    latest = await _latest_applied(session, row.partner_id)
    row.applied_at = at
    if latest is not None and row.observed_at < latest.observed_at:
        row.refusal = STALE
        return
    partner = await session.get_one(Partner, row.partner_id)
    previous = None if latest is None else _believed(latest)
    await apply(session, partner, _read(row), previous=previous, observed_at=row.observed_at)


async def _note_failure(session: AsyncSession, snapshot_id: UUID, error: Exception, *, at: datetime) -> None:
    row = await session.get_one(StatusSnapshot, snapshot_id, with_for_update=True)
    if row.applied_at is not None:
        return
    row.attempts += 1
    if row.attempts >= TRIES:
        row.applied_at = at
        row.refusal = str(error) if isinstance(error, DomainError) else f"It failed: {type(error).__name__}."


async def _latest_applied(session: AsyncSession, partner_id: UUID) -> StatusSnapshot | None:
    return await session.scalar(
        select(StatusSnapshot)
        .where(StatusSnapshot.partner_id == partner_id, StatusSnapshot.applied_at.is_not(None))
        .where(StatusSnapshot.refusal.is_(None))
        .order_by(StatusSnapshot.observed_at.desc())
        .limit(1)
    )


def _believed(row: StatusSnapshot) -> snapshot.Summary | None:
    """What was applied by an earlier release need not be what this one believes."""
    try:
        return _read(row)
    except InvalidInput:
        return None


def _read(row: StatusSnapshot) -> snapshot.Summary:
    return snapshot.read(json.dumps(row.summary).encode())

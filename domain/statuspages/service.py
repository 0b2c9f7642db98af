"""Turns what a partner's status page said into incidents, each snapshot once, in order of observation.

Only a whole snapshot is believed: what it no longer lists is over; a failed fetch says nothing.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Partner
from domain.core import events
from domain.core.errors import Conflict
from domain.core.ids import uuid7
from domain.statuspages import snapshot
from domain.statuspages.incidents import apply
from domain.statuspages.models import StatusSnapshot

_AT_ONCE = 100
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
        "summary": json.loads(body),
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


async def apply_waiting(session: AsyncSession, at: datetime) -> int:
    """Apply snapshots that wait, the oldest first, of the partners nobody else is applying; how many."""
    waiting = select(StatusSnapshot.partner_id).where(StatusSnapshot.applied_at.is_(None)).distinct()
    applied = 0
    for partner_id in sorted(await session.scalars(waiting)):
        lock = func.pg_try_advisory_xact_lock(func.hashtext(f"statuspages:{partner_id}"))
        if await session.scalar(select(lock)):
            applied += await _apply_of(session, partner_id, at=at)
    return applied


async def _apply_of(session: AsyncSession, partner_id: UUID, *, at: datetime) -> int:
    partner = await session.get_one(Partner, partner_id)
    latest = await _latest_applied(session, partner_id)
    previous = None if latest is None else _read(latest)
    rows: Sequence[StatusSnapshot] = (
        await session.scalars(
            select(StatusSnapshot)
            .where(StatusSnapshot.partner_id == partner_id, StatusSnapshot.applied_at.is_(None))
            .order_by(StatusSnapshot.observed_at)
            .limit(_AT_ONCE)
        )
    ).all()
    for row in rows:
        if latest is not None and row.observed_at < latest.observed_at:
            row.refusal = STALE
        else:
            summary = _read(row)
            await apply(session, partner, summary, previous=previous, observed_at=row.observed_at)
            previous = summary
        row.applied_at = at
    return len(rows)


async def _latest_applied(session: AsyncSession, partner_id: UUID) -> StatusSnapshot | None:
    return await session.scalar(
        select(StatusSnapshot)
        .where(StatusSnapshot.partner_id == partner_id, StatusSnapshot.applied_at.is_not(None))
        .where(StatusSnapshot.refusal.is_(None))
        .order_by(StatusSnapshot.observed_at.desc())
        .limit(1)
    )


def _read(row: StatusSnapshot) -> snapshot.Summary:
    return snapshot.read(json.dumps(row.summary).encode())

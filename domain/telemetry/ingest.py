"""Takes points in: into the log in one transaction with the batch's key, acknowledged after commit."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core import events
from domain.core.db import Database, raw
from domain.core.errors import IdempotencyKeyReused
from domain.telemetry import columns
from domain.telemetry.columns import Key
from domain.telemetry.models import IngestBatch
from domain.telemetry.points import Point


@dataclass(frozen=True)
class Request:
    """One request to take points: who sends it, and what makes a repetition the same.

    `scope` is whose rows the sender may write, `subject` the key it sends with: two keys of one account
    are two senders.
    """

    scope: str
    subject: str
    body: bytes
    idempotency_key: str | None
    is_backfill: bool
    received_at: datetime

    @property
    def body_hash(self) -> bytes:
        return hashlib.sha256(self.body).digest()

    @property
    def key(self) -> bytes:
        """The hash of the sender and the key it gave, or else of the sender and the body."""
        given = self.idempotency_key
        part = b"body:" + self.body_hash if given is None else b"key:" + given.encode()
        return hashlib.sha256(self.subject.encode() + b"\0" + part).digest()


async def _earlier_reply(session: AsyncSession, request: Request) -> dict[str, Any] | None:
    batch = await session.scalar(select(IngestBatch).where(IngestBatch.key == request.key))
    if batch is None:
        return None
    if batch.body_hash != request.body_hash:
        raise IdempotencyKeyReused("This Idempotency-Key was used before with another body.")
    return batch.reply


async def append(
    db: Database,
    request: Request,
    points: Sequence[Point],
    keys: Sequence[Key],
    *,
    reply: dict[str, Any],
) -> dict[str, Any]:
    """Write the points (of which `keys[i]` is that of `points[i]`) once; returns the reply to give.

    When this returns the points are durable. A repetition, also a concurrent one, gets the first
    reply and writes nothing.
    """
    async with db.transaction(request.scope) as session:
        while not await _is_new(session, request, reply):
            earlier = await _earlier_reply(session, request)
            if earlier is not None:  # else it was dropped as too old in between
                return earlier
        if points:
            await _log(session, request, columns.gather(points, keys))
    return reply


async def _is_new(session: AsyncSession, request: Request, reply: dict[str, Any]) -> bool:
    taken = await session.execute(
        insert(IngestBatch)
        .values(
            key=request.key,
            scope=request.scope,
            body_hash=request.body_hash,
            reply=reply,
            received_at=request.received_at,
        )
        .on_conflict_do_nothing()
        .returning(IngestBatch.key)
    )
    return taken.first() is not None


async def _log(session: AsyncSession, request: Request, batch: columns.Columns) -> None:
    connection = await raw(session)
    await connection.copy_records_to_table(
        "ingest_log",
        records=[(request.received_at, request.is_backfill, len(batch), columns.encode(batch))],
        columns=["received_at", "backfill", "points", "columns"],
    )
    await session.execute(text(f"NOTIFY {events.WAKE}"))

"""Reads streams: events behind a place in one, and the cursors that name such places."""

import base64
import binascii
import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.errors import InvalidInput
from domain.core.events import Event
from domain.delivery.models import Stream, StreamEvent

_CURSOR = struct.Struct(">4sq")


class GapReason(StrEnum):
    """UNKNOWN_CURSOR: the cursor belongs to another stream or installation."""

    RETENTION = "RETENTION"
    UNKNOWN_CURSOR = "UNKNOWN_CURSOR"


@dataclass(frozen=True)
class Told:
    """An event as a stream tells it: `payload` and `at` as recorded, `type` and `version` its own."""

    sequence: int
    version: int
    type: str
    event_id: UUID
    subject_id: UUID
    account_id: UUID | None
    at: datetime
    sequenced_at: datetime
    payload: dict[str, Any]


@dataclass(frozen=True)
class Gap:
    """Events `first` to `last` (inclusive) of a stream can no longer be had; read on behind `last`."""

    first: int
    last: int
    reason: GapReason


@dataclass(frozen=True)
class Start:
    """Where a reader goes on: behind `sequence`, having been told of `gap` where there is one."""

    sequence: int
    gap: Gap | None = None


async def after(session: AsyncSession, stream: str, sequence: int, *, limit: int) -> Sequence[Told]:
    """The first `limit` events of `stream` behind `sequence`, in order."""
    rows = await session.execute(
        select(StreamEvent, Event.account_id, Event.at, Event.payload)
        .join(Event, Event.id == StreamEvent.event_id)
        .where(StreamEvent.stream == stream, StreamEvent.sequence > sequence)
        .order_by(StreamEvent.sequence)
        .limit(limit)
    )
    return [_told(*row) for row in rows]


async def of_subject(
    session: AsyncSession, stream: str, subject_id: UUID, *, after_version: int = 0, limit: int
) -> Sequence[Told]:
    """What `stream` told of one subject, behind `after_version` of it, in order."""
    rows = await session.execute(
        select(StreamEvent, Event.account_id, Event.at, Event.payload)
        .join(Event, Event.id == StreamEvent.event_id)
        .where(
            StreamEvent.stream == stream,
            StreamEvent.subject_id == subject_id,
            StreamEvent.version > after_version,
        )
        .order_by(StreamEvent.version)
        .limit(limit)
    )
    return [_told(*row) for row in rows]


async def by_event(session: AsyncSession, stream: str, event_ids: Sequence[UUID]) -> dict[UUID, Told]:
    """Those of the events that `stream` tells."""
    rows = await session.execute(
        select(StreamEvent, Event.account_id, Event.at, Event.payload)
        .join(Event, Event.id == StreamEvent.event_id)
        .where(StreamEvent.stream == stream, StreamEvent.event_id.in_(event_ids))
    )
    return {told.event_id: told for told in (_told(*row) for row in rows)}


def _told(place: StreamEvent, account_id: UUID | None, at: datetime, payload: dict[str, Any]) -> Told:
    return Told(
        sequence=place.sequence,
        version=place.version,
        type=place.type,
        event_id=place.event_id,
        subject_id=place.subject_id,
        account_id=account_id,
        at=at,
        sequenced_at=place.sequenced_at,
        payload=payload,
    )


async def latest_sequence(session: AsyncSession, stream: str) -> int:
    """The last sequence that the stream was given, 0 before the first."""
    return await session.scalar(select(Stream.last_sequence).where(Stream.name == stream)) or 0


async def oldest_sequence(session: AsyncSession, stream: str) -> int | None:
    """The first sequence that is still kept; None when nothing is."""
    return await session.scalar(select(func.min(StreamEvent.sequence)).where(StreamEvent.stream == stream))


async def start(session: AsyncSession, stream: str, cursor: str | None) -> Start:
    """Where a reader goes on that has seen all up to `cursor`; None reads from the oldest that is kept.

    InvalidInput for a text that is no cursor at all.
    """
    latest = await latest_sequence(session, stream)
    oldest = await oldest_sequence(session, stream)
    kept_from = latest + 1 if oldest is None else oldest
    if cursor is None:
        return Start(kept_from - 1)
    sequence = decode(cursor, stream=stream)
    if sequence is None or sequence > latest:
        return Start(latest, Gap(min(1, latest), latest, GapReason.UNKNOWN_CURSOR))
    if sequence + 1 < kept_from:
        return Start(kept_from - 1, Gap(sequence + 1, kept_from - 1, GapReason.RETENTION))
    return Start(sequence)


def encode(stream: str, sequence: int) -> str:
    """The cursor of a place; 0 is before the first event."""
    return base64.urlsafe_b64encode(_CURSOR.pack(_tag(stream), sequence)).decode()


def decode(cursor: str, *, stream: str) -> int | None:
    """The sequence that a cursor names, None when it is another stream's. InvalidInput when it is none."""
    try:
        packed = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True)
        tag, sequence = _CURSOR.unpack(packed)
    except (ValueError, binascii.Error, struct.error) as error:
        raise InvalidInput("This cursor is not one of ours.", path=("after",)) from error
    if sequence < 0:
        raise InvalidInput("This cursor is not one of ours.", path=("after",))
    return int(sequence) if tag == _tag(stream) else None


def _tag(stream: str) -> bytes:
    return hashlib.sha256(stream.encode()).digest()[:4]

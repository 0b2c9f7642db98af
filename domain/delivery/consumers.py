"""Named readers of a stream: each acknowledges what it has dealt with, and goes on from there."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.errors import InvalidInput
from domain.core.texts import text_flaw
from domain.delivery import queries
from domain.delivery.models import StreamConsumer

MOST = 100
"""Names that one stream may have."""


async def acknowledge(
    session: AsyncSession, stream: str, name: str, cursor: str, *, at: datetime
) -> StreamConsumer:
    """Move the reader's place to `cursor`, or leave it where it is further on already.

    InvalidInput for a name that cannot be kept, for one too many, and for a cursor that is none of
    this stream or that nothing was sent for yet.
    """
    if flaw := text_flaw(name):
        raise InvalidInput(f"The name of a consumer {flaw}.", path=("consumer",))
    sequence = await _sequence(session, stream, cursor)
    await _limit(session, stream, name)
    place = insert(StreamConsumer).values(
        stream=stream, name=name, acknowledged_sequence=sequence, acknowledged_at=at
    )
    forward = func.greatest(StreamConsumer.acknowledged_sequence, sequence)
    await session.execute(
        place.on_conflict_do_update(
            index_elements=["stream", "name"], set_={"acknowledged_sequence": forward, "acknowledged_at": at}
        )
    )
    return await session.get_one(StreamConsumer, (stream, name), populate_existing=True)


async def cursor(session: AsyncSession, stream: str, name: str) -> str | None:
    """The cursor behind which the reader goes on; None when it has acknowledged nothing yet."""
    row = await session.get(StreamConsumer, (stream, name))
    return None if row is None else queries.encode(stream, row.acknowledged_sequence)


async def of_stream(session: AsyncSession, stream: str) -> Sequence[StreamConsumer]:
    """By name, at most MOST."""
    rows = select(StreamConsumer).where(StreamConsumer.stream == stream).order_by(StreamConsumer.name)
    return (await session.scalars(rows.limit(MOST))).all()


async def _sequence(session: AsyncSession, stream: str, cursor: str) -> int:
    try:
        sequence = queries.decode(cursor, stream=stream)
    except InvalidInput as error:
        raise InvalidInput(str(error), path=("cursor",)) from error
    if sequence is None or sequence > await queries.latest_sequence(session, stream):
        raise InvalidInput("This cursor is not of this stream.", path=("cursor",))
    return sequence


async def _limit(session: AsyncSession, stream: str, name: str) -> None:
    others = select(func.count()).where(StreamConsumer.stream == stream, StreamConsumer.name != name)
    if (await session.scalar(others) or 0) >= MOST:
        raise InvalidInput(f"A stream has at most {MOST} named consumers.", path=("consumer",))

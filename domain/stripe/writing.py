"""Facts on their way into the log of telemetry, in the transaction that records their event."""

from collections.abc import Sequence
from datetime import datetime

import numpy as np
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import raw
from domain.stripe.facts import Fact
from domain.telemetry import columns, sketches
from domain.telemetry.columns import Columns
from domain.telemetry.decoded import Decoded
from domain.telemetry.placing import Registry
from domain.telemetry.points import Flaw, Mode, minute
from domain.telemetry.senders import Sender

_LOG = "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES ($1, $2, $3, $4)"


class NoPlace(ValueError):
    """Facts that cannot be kept; nothing of their event is."""

    def __init__(self, flaw: Flaw) -> None:
        super().__init__(f"It cannot be kept: {' '.join(flaw)}.")


async def place(
    facts: Sequence[Fact],
    account: str,
    *,
    happened_at: datetime,
    registry: Registry,
    sender: Sender,
    at: datetime,
) -> Columns:
    """The facts as points of the account with that external id; raises NoPlace unless all have a place.

    They are of the minute in which the event happened, and add up, so that the order in which events
    come makes no difference.
    """
    slots = [registry.slots.slot(account, one.metric, one.labels, sent_as=one.kind) for one in facts]
    flaws = [flaw for slot in slots if (flaw := registry.slots.refusals[slot])]
    if flaws:
        raise NoPlace(flaws[0])
    values = [one.value for one in facts]
    placed = await registry.place(_decoded(slots, values, happened_at=happened_at), sender, at=at)
    if placed.refused:
        raise NoPlace(next(iter(placed.refused.values())))
    return placed.columns


def _decoded(slots: Sequence[int], values: Sequence[int], *, happened_at: datetime) -> Decoded:
    n = len(slots)
    nothing = np.zeros(n, np.int64)
    return Decoded(
        slot=np.array(slots, np.int32),
        source=np.zeros(n, np.int32),
        sources=("",),
        at=np.full(n, minute(int(happened_at.timestamp())), np.int64),
        value=np.array(values, np.float64),
        count=nothing,
        mode=np.full(n, Mode.ADD, np.uint8),
        start=nothing,
        time=nothing,
        number=np.arange(1, n + 1, dtype=np.int32),
        sketches=sketches.none(n),
    )


async def log(session: AsyncSession, points: Columns, *, is_backfill: bool, at: datetime) -> None:
    """Let the points be folded once the transaction commits.

    The relay is not told: NOTIFY would make the commits of all events wait for one another, and it looks
    at the log each second by itself.
    """
    connection = await raw(session)
    await connection.execute(_LOG, at, is_backfill, len(points), columns.encode(points))

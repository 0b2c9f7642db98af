"""When a minute is closed: by event time, as its sources tell it; a replay closes as live traffic does."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

MINUTE = timedelta(minutes=1)
GRACE = timedelta(seconds=15)
"""How much later than its minute a point may be sent."""
SILENT = timedelta(seconds=75)
"""A source that sends nothing for so long has said all of what it was saying."""
LIVE = timedelta(minutes=5)
"""A source whose points arrive within this of their own time sends as things happen."""
GONE = timedelta(minutes=3)
"""A live source that is silent for so long no longer says that nothing happens: there is no data."""


@dataclass(frozen=True)
class Mark:
    """A source as a whole: the minute of its newest point, and when something of it was last received."""

    newest_at: datetime
    received_at: datetime


def floor(at: datetime) -> datetime:
    return at.replace(second=0, microsecond=0)


def closed_until(marks: Sequence[Mark], at: datetime) -> datetime:
    """The end (exclusive) of the minutes that are complete, of the sources `marks` at the time `at`.

    A minute is closed by the watermark of each source (its newest point less GRACE), by the clock for
    sources that are live, and by silence. A silent source does not hold back the others. No point of
    the future, whose sender's clock is ahead, closes a minute before the clock does.
    """
    speaking = [mark for mark in marks if at - mark.received_at < SILENT]
    closed = [_closed_by(mark, at) for mark in speaking or marks]
    return min(min(closed) if speaking else max(closed), floor(at - GRACE))


def _closed_by(mark: Mark, at: datetime) -> datetime:
    closed = floor(mark.newest_at - GRACE)
    silent_for = at - mark.received_at
    if mark.received_at - mark.newest_at <= LIVE and silent_for < GONE:
        closed = max(closed, floor(at - GRACE))
    if silent_for >= SILENT:
        closed = max(closed, mark.newest_at + MINUTE)
    return closed

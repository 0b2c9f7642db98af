"""When to send, and what to tell the one who waits."""

import math
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import click

_TELL_EVERY_S = {True: 0.5, False: 10.0}  # by whether a person sees it on a terminal
_CLEAR = "\r\x1b[K"


class Pace:
    """Lets event time pass `speed` times as fast as the clock does, from the first moment waited for."""

    def __init__(
        self,
        speed: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.speed = speed
        self._clock, self._sleep = clock, sleep
        self._began: tuple[float, datetime] | None = None

    @property
    def span(self) -> timedelta | None:
        """How much event time a request holds: a second's worth and at least a minute; None: any."""
        return None if math.isinf(self.speed) else timedelta(minutes=max(1, int(self.speed // 60)))

    def wait_for(self, due: datetime) -> None:
        """Return when it is `due` in event time; at once when it is late."""
        if self._began is None:
            self._began = self._clock(), due
        began_s, first = self._began
        left_s = began_s + (due - first).total_seconds() / self.speed - self._clock()
        if left_s > 0:
            self._sleep(left_s)


class Progress:
    """Counts what was sent, and tells it on standard error: at first at once, then from time to time."""

    def __init__(self, what: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.what, self.sent, self.refused = what, 0, 0
        self.at: datetime | None = None
        self._clock = clock
        self._began, self._told = clock(), -math.inf
        self._on_terminal = sys.stderr.isatty()

    def took(self, size: int, *, at: datetime) -> None:
        self.sent, self.at = self.sent + size, at
        self._tell()

    def refuse(self, size: int, *, at: datetime) -> None:
        self.refused, self.at = self.refused + size, at
        self._tell()

    def say(self, text: str) -> None:
        """A line of its own, which stays."""
        click.echo((_CLEAR if self._on_terminal else "") + text, err=True)

    def __str__(self) -> str:
        at = f"{self.at.astimezone(UTC):%F %RZ}" if self.at else "nothing"
        rate = self.sent / max(self._clock() - self._began, 1e-3)
        return f"{at}  {self.sent} {self.what} sent, {self.refused} refused, {rate:,.0f} a second"

    def _tell(self) -> None:
        if self._clock() - self._told < _TELL_EVERY_S[self._on_terminal]:
            return
        self._told = self._clock()
        if self._on_terminal:
            click.echo(_CLEAR + str(self), err=True, nl=False)
        else:
            click.echo(str(self), err=True)

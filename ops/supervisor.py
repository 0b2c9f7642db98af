"""Keeps children running: one that ends is started again, a little later each time.

Five quick deaths of one child in a row end everything, or that child alone where it is not vital.
"""

import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from ops.embedded.processes import Process, Steps, stop_all

QUICK_S = 10.0
DELAYS_S = (0.5, 1.0, 2.0, 4.0)
_LOOK_EVERY_S = 0.1


class GaveUp(Exception):
    """A child can not be kept running."""


@dataclass
class Child:
    """A process to keep running; times are monotonic seconds. One that is not vital may stay dead."""

    name: str
    start: Callable[[], Process]
    log: Path
    process: Process | None = None
    started_at: float = field(default=0.0)
    due_at: float = field(default=0.0)
    quick_deaths: int = 0
    is_vital: bool = True

    def launch(self) -> Process:
        self.process, self.started_at = self.start(), time.monotonic()
        return self.process

    def bury(self) -> str:
        """Plan the next start of a child that ended; returns what to say about it."""
        assert self.process is not None
        now, code = time.monotonic(), self.process.wait()
        self.quick_deaths = self.quick_deaths + 1 if now - self.started_at < QUICK_S else 1
        if self.quick_deaths > len(DELAYS_S):
            told = f"{self.name} ended {self.quick_deaths} times in a row, the last time with {code}"
            if self.is_vital:
                raise GaveUp(f"{told}: see {self.log}")
            self.process, self.due_at = None, math.inf
            return f"{told}; it is not started again (see {self.log})"
        delay_s = DELAYS_S[self.quick_deaths - 1]
        self.process, self.due_at = None, now + delay_s
        return f"{self.name} ended with {code}; it starts again in {delay_s:g} s (see {self.log})"


class Supervisor:
    """Children in tiers; the last tier started is the first to be stopped."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say = say
        self.signals = 0
        self.tiers: list[tuple[Steps, list[Child]]] = []

    @property
    def stopping(self) -> bool:
        return self.signals > 0

    def obey_signals(self) -> None:
        """Ctrl-C, TERM and HUP stop; a second one stops at once."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._count)

    def start(self, *children: Child, steps: Steps) -> None:
        """Start a tier, which will be stopped by `steps`."""
        tier: list[Child] = []
        self.tiers.append((steps, tier))
        for child in children:
            child.launch()
            tier.append(child)

    def look(self) -> None:
        """Bury the dead and start those whose time has come."""
        for _, tier in self.tiers:
            for child in tier:
                if child.process is None:
                    if time.monotonic() >= child.due_at:
                        child.launch()
                elif child.process.poll() is not None:
                    self.say(child.bury())

    def run(self, until: Callable[[], bool] = lambda: False) -> bool:
        """Keep them running until `until()` (True) or until told to stop (False)."""
        while not self.stopping:
            if until():
                return True
            self.look()
            time.sleep(_LOOK_EVERY_S)
        return False

    def stop(self) -> None:
        """Stop the tiers, last first; the children of one tier together."""
        for steps, tier in reversed(self.tiers):
            processes = [child.process for child in tier if child.process is not None]
            stop_all(processes, steps, hurry=lambda: self.signals > 1)

    def _count(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

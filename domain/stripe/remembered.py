"""What was found out lately, so that a stream of events does not ask for it each time."""

from collections.abc import Hashable
from datetime import datetime, timedelta
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[K, V]):
    """Values by key, each for some time after it was found; all are forgotten once they are too many."""

    def __init__(self, for_: timedelta, *, most: int = 100_000) -> None:
        self._for, self._most = for_, most
        self._found: dict[K, tuple[V, datetime]] = {}

    def get(self, key: K, at: datetime) -> V | None:
        value, since = self._found.get(key, (None, at))
        return value if at - since < self._for else None

    def put(self, key: K, value: V, at: datetime) -> V:
        if len(self._found) >= self._most:
            self._found.clear()
        self._found[key] = value, at
        return value

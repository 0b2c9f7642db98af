"""The series that this process has seen in bodies, each under a small number: its slot.

Decoders speak of slots, so that checking and placing points is arithmetic on arrays. A slot is what was
written (account's external id, metric, labels); who may write there is asked for each request.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import points
from domain.telemetry.points import MAX_COUNT, MAX_VALUE, MAX_WHOLE, Flaw, Kind, Labels

WHOLE, NOT_NEGATIVE, DISTRIBUTION = 1, 2, 4
_FLAGS = {
    Kind.COUNT: WHOLE | NOT_NEGATIVE,
    Kind.AMOUNT: WHOLE,
    Kind.DISTRIBUTION: NOT_NEGATIVE | DISTRIBUTION,
}


class Identity(NamedTuple):
    """A series as senders name it; `kind` is that of the metric, or how it was first sent."""

    account: str
    metric: str
    labels: Labels
    kind: Kind


class Slots:
    """Grows only; `identities[slot]`, and `refusals[slot]` where no point of it can be kept."""

    def __init__(self) -> None:
        self.identities: list[Identity] = []
        self.refusals: list[Flaw | None] = []
        self._slots: dict[tuple[str, str, Labels], int] = {}
        self._flags = np.zeros(1024, np.uint8)

    def __len__(self) -> int:
        return len(self.identities)

    def slot(self, account: str, metric: str, labels: Labels, *, sent_as: Kind = Kind.GAUGE) -> int:
        """The slot of a series, made on first sight; `labels` are in canonical order (`points.labels`).

        `sent_as` is the kind of a metric that is not understood.
        """
        key = account, metric, labels
        found = self._slots.get(key)
        return self._add(key, sent_as) if found is None else found

    def flags(self, slot: NDArray[np.int32]) -> NDArray[np.uint8]:
        """WHOLE, NOT_NEGATIVE and DISTRIBUTION of each."""
        return self._flags[slot]

    def is_refused(self, slot: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Whether nothing of that series can be kept."""
        used = np.unique(slot)
        refused = used[[self.refusals[one] is not None for one in used.tolist()]]
        return np.isin(slot, refused)

    def _add(self, key: tuple[str, str, Labels], sent_as: Kind) -> int:
        account, metric, labels = key
        understood = points.METRICS.get(metric)
        slot = len(self.identities)
        if slot == len(self._flags):
            self._flags = np.concatenate([self._flags, np.zeros_like(self._flags)])
        self._flags[slot] = _FLAGS.get(understood.kind, 0) if understood else 0
        self.identities.append(Identity(account, metric, labels, understood.kind if understood else sent_as))
        self.refusals.append(next(points.identity_flaws(account, metric, labels), None))
        self._slots[key] = slot
        return slot


def misfits(
    flags: NDArray[np.uint8],
    total: NDArray[np.float64],
    count: NDArray[np.int64],
    *,
    most: NDArray[np.int64] | int = MAX_COUNT,
) -> NDArray[np.bool_]:
    """Which values cannot be kept, as `points.value_flaws` says one by one; `total` is the sum of `count`.

    `count` is 0 where there is none, and `most` at most.
    """
    whole = (flags & WHOLE) != 0
    negative = ((flags & NOT_NEGATIVE) != 0) & (total < 0)
    with np.errstate(invalid="ignore"):
        unwhole = whole & ((total != np.floor(total)) | (np.abs(total) > MAX_WHOLE) | (count != 0))
        beyond = ~(np.abs(total) <= MAX_VALUE) | (count < 0) | (count > most)
    misfit: NDArray[np.bool_] = negative | unwhole | beyond
    return misfit

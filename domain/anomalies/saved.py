"""Detectors' state as bytes: which series the nodes are, and every number exactly."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from domain.anomalies.state import State


@dataclass
class Nodes:
    """The nodes of one kind of detector: node i is the series `series_ids[i]`."""

    series_ids: list[UUID]
    state: State

    @classmethod
    def none(cls) -> "Nodes":
        return cls([], State.fresh(0))

    def extend(self, series_ids: Sequence[UUID]) -> None:
        """Append those series that are not nodes yet; of them nothing is known."""
        new = [one for one in series_ids if one not in set(self.series_ids)]
        if new:
            self.series_ids = [*self.series_ids, *new]
            self.state = self.state.extended(len(self.series_ids))


def pack(rates: Nodes, volume: Nodes) -> bytes:
    buffer = io.BytesIO()
    np.savez(
        buffer,
        rate_ids=_ids(rates),
        rates=rates.state.to_array(),
        volume_ids=_ids(volume),
        volume=volume.state.to_array(),
    )
    return buffer.getvalue()


def unpack(saved: bytes) -> tuple[Nodes, Nodes]:
    """The rates and the volume that `pack` was given; of nothing, no nodes."""
    if not saved:
        return Nodes.none(), Nodes.none()
    with np.load(io.BytesIO(saved), allow_pickle=False) as arrays:
        return tuple(
            Nodes([UUID(bytes=row.tobytes()) for row in arrays[ids]], State.from_array(arrays[states]))
            for ids, states in (("rate_ids", "rates"), ("volume_ids", "volume"))
        )  # type: ignore[return-value]  # of two


def _ids(nodes: Nodes) -> np.ndarray[tuple[int, int], np.dtype[np.uint8]]:
    joined = b"".join(one.bytes for one in nodes.series_ids)
    return np.frombuffer(joined, np.uint8).reshape(-1, 16)

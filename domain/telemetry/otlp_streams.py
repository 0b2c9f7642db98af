"""What the data points of one metric of one sender have in common: where they belong and what they are."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from domain.telemetry import otlp_attributes, points
from domain.telemetry.otlp_attributes import TOO_MANY, Message, Refused, Texts
from domain.telemetry.points import METRICS, Kind, Mode
from domain.telemetry.slots import Slots

SHAPES = ("gauge", "sum", "histogram", "exponential_histogram", "summary")
GAUGE, SUM, HISTOGRAM, EXPONENTIAL, SUMMARY = range(5)
_MAX_ATTRIBUTES = 1_000
_DISTRIBUTIONS = ("histogram", "exponential_histogram")
_TEMPORALITIES: dict[int | str, Mode] = {
    1: Mode.ADD,
    2: Mode.CUMULATIVE,
    "AGGREGATION_TEMPORALITY_DELTA": Mode.ADD,
    "AGGREGATION_TEMPORALITY_CUMULATIVE": Mode.CUMULATIVE,
}
_COLUMNS = np.dtype(
    [("shape", "u1"), ("mode", "u1"), ("factor", "f8"), ("source", "i4"), ("is_refused", "?")]
)
_MS = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6}


class Header(NamedTuple):
    """What a metric says of all its data points; a temporality that is not known is None."""

    name: str
    unit: str
    shape: str
    temporality: Mode | None = None
    is_monotonic: bool = False


class Owner(NamedTuple):
    """What a resource or a scope says of the points below it, or why none of these can be kept."""

    texts: Texts
    refusal: str | None = None


class Stream(NamedTuple):
    """A metric as one sender tells it. Values times `factor` are in our unit.

    `refusal` is why none of its points can be kept. `kind` is what a metric that is not understood is.
    """

    place: Texts
    source: str
    metric: str
    shape: str
    kind: Kind
    mode: Mode = Mode.REPLACE
    factor: float = 1.0
    refusal: str | None = None

    @property
    def shown(self) -> str:
        """Its name as the sender is told it."""
        return (self.metric or "a metric without a name")[:80]

    def slot(self, attributes: Sequence[Message], slots: Slots) -> int:
        """The slot of a point with these attributes. Raises Refused."""
        texts = self.place | _texts(attributes)
        account, labels = otlp_attributes.account(texts), otlp_attributes.labels(texts)
        slot = slots.slot(account, self.metric, labels, sent_as=self.kind)
        if flaw := slots.refusals[slot]:
            raise Refused(" ".join(flaw))
        return slot


class Streams:
    """Streams under numbers from 0; of `columns` those that arithmetic on points needs, by number."""

    def __init__(self) -> None:
        self.streams: list[Stream] = []
        self.sources: list[str] = []
        self.columns = np.zeros(64, _COLUMNS)
        self._sources: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.streams)

    def add(self, stream: Stream) -> int:
        number = len(self.streams)
        if number == len(self.columns):
            self.columns = np.concatenate([self.columns, np.zeros_like(self.columns)])
        if stream.source not in self._sources:
            self._sources[stream.source] = len(self.sources)
            self.sources.append(stream.source)
        source = self._sources[stream.source]
        shape, is_refused = SHAPES.index(stream.shape), stream.refusal is not None
        self.columns[number] = shape, stream.mode, stream.factor, source, is_refused
        self.streams.append(stream)
        return number


def temporality(told: int | str | None) -> Mode | None:
    """What points of a temporality do; of its many spellings none is kept that a sender made up."""
    return _TEMPORALITIES.get(told or 0)


def header(metric: Message) -> Header | None:
    """What a metric says of its data points; None if it has no data."""
    shape = metric.WhichOneof("data")
    if shape is None:
        return None
    data = getattr(metric, shape)
    return Header(
        name=metric.name or "",
        unit=metric.unit or "",
        shape=shape,
        temporality=temporality(getattr(data, "aggregation_temporality", None)),
        is_monotonic=bool(getattr(data, "is_monotonic", False)),
    )


def owner(attributes: Sequence[Message]) -> Owner:
    """A resource or scope that has these."""
    try:
        return Owner(_texts(attributes))
    except Refused as refusal:
        return Owner({}, str(refusal))


def stream(resource: Owner, scope: Owner, header: Header) -> Stream:
    """The stream of a metric within a scope of a resource."""
    plain = Stream(
        place=otlp_attributes.placing(resource.texts) | otlp_attributes.placing(scope.texts),
        source=otlp_attributes.source(resource.texts),
        metric=header.name,
        shape=header.shape,
        kind=_kind(header),
        refusal=resource.refusal or scope.refusal,
    )
    if plain.refusal is not None:
        return plain
    try:
        for flaw in points.source_flaws(plain.source):
            raise Refused(" ".join(flaw))
        return plain._replace(factor=_factor(header), mode=_mode(header))
    except Refused as refusal:
        return plain._replace(refusal=str(refusal))


def crowded_out(shape: str) -> Stream:
    """What stands for all streams of a shape that are too many in one body."""
    return Stream(place={}, source="", metric="", shape=shape, kind=Kind.GAUGE, refusal=TOO_MANY)


def _texts(attributes: Sequence[Message]) -> Texts:
    if len(attributes) > _MAX_ATTRIBUTES:
        raise Refused(f"has more than {_MAX_ATTRIBUTES} attributes on its resource, scope or point")
    return otlp_attributes.texts(attributes)


def _kind(header: Header) -> Kind:
    if header.shape in _DISTRIBUTIONS:
        return Kind.DISTRIBUTION
    return Kind.COUNT if header.shape == "sum" and header.is_monotonic else Kind.GAUGE


def _is_latency(header: Header) -> bool:
    return points.metric(header.name).kind is Kind.DISTRIBUTION


def _factor(header: Header) -> float:
    if not _is_latency(header):
        return 1.0
    if header.unit not in _MS:
        raise Refused(f"must be in ms (or s, us, ns), not in {header.unit[:20]}")
    return _MS[header.unit]


def _mode(header: Header) -> Mode:
    """A sum that may fall is a level when it is cumulative; counts and amounts only ever grow."""
    if header.shape == "gauge":
        return Mode.REPLACE
    if header.shape == "summary" or (header.shape == "sum" and _is_latency(header)):
        kept = "a histogram" if header.shape == "sum" else "a histogram with explicit bounds"
        raise Refused(f"is sent as {header.shape}, which is not kept: send {kept}")
    mode = header.temporality
    if header.shape == "sum" and not header.is_monotonic:
        if header.name in METRICS or mode is Mode.ADD:
            raise Refused("is a sum that is not monotonic: send a monotonic delta sum or a gauge")
        return Mode.REPLACE
    if mode is None:
        raise Refused("needs delta or cumulative temporality")
    return mode

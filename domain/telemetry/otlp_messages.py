"""OTLP/JSON metrics requests, as structs that answer like the protobuf messages: the same rules read both.

Names are lowerCamelCase, 64-bit integers are text or numbers, unknown fields are ignored and null
is absent. Only what is read has a field. Attributes and bounds, which repeat, are left as they are written.
"""

from typing import Annotated, Any, ClassVar

from msgspec import Meta, Raw, Struct, field
from msgspec.json import Decoder

Whole = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
Signed = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Unsigned = Annotated[int, Meta(ge=0, le=2**63 - 1)]
_ABSENT = Raw(b"null")


class Message(Struct, rename="camel", gc=False):
    """What all messages share; `groups` are the fields of which at most one is set."""

    groups: ClassVar[dict[str, tuple[str, ...]]] = {}

    def WhichOneof(self, group: str) -> str | None:
        """The set field of a group, as the generated classes answer."""
        return next((name for name in self.groups[group] if getattr(self, name) is not None), None)


class AnyValue(Message):
    groups = {
        "value": (
            "string_value",
            "bool_value",
            "int_value",
            "double_value",
            "array_value",
            "kvlist_value",
            "bytes_value",
        )
    }
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: Signed | None = None
    double_value: float | None = None
    array_value: Any = None
    kvlist_value: Any = None
    bytes_value: Any = None


class KeyValue(Message):
    key: str | None = None
    value: AnyValue | None = None


class Owner(Message):
    """A resource or an instrumentation scope."""

    attributes: Raw = _ABSENT


class Range(Message):
    """The positive or negative buckets of an exponential histogram."""

    offset: Whole | None = None
    bucket_counts: list[Unsigned] | None = None


class DataPoint(Message):
    """A number or a histogram; of summaries only what they have in common with these."""

    groups = {"value": ("as_double", "as_int"), "_sum": ("sum",)}
    attributes: Raw = _ABSENT
    start_time_unix_nano: Unsigned | None = None
    time_unix_nano: Unsigned | None = None
    flags: Unsigned | None = None
    as_double: float | None = None
    as_int: Signed | None = None
    count: Unsigned | None = None
    sum: float | None = None
    bucket_counts: list[Unsigned] | None = None
    bounds: Raw = field(default=_ABSENT, name="explicitBounds")
    scale: Whole | None = None
    zero_count: Unsigned | None = None
    positive: Range | None = None
    negative: Range | None = None

    @property
    def explicit_bounds(self) -> list[float] | None:
        read: list[float] | None = bounds.decode(self.bounds)
        return read


class Data(Message):
    data_points: list[DataPoint] | None = None
    aggregation_temporality: int | str | None = None
    is_monotonic: bool | None = None


class Metric(Message):
    groups = {"data": ("gauge", "sum", "histogram", "exponential_histogram", "summary")}
    name: str | None = None
    unit: str | None = None
    gauge: Data | None = None
    sum: Data | None = None
    histogram: Data | None = None
    exponential_histogram: Data | None = None
    summary: Data | None = None


class ScopeMetrics(Message):
    scope: Owner | None = None
    metrics: list[Metric] | None = None


class ResourceMetrics(Message):
    resource: Owner | None = None
    scope_metrics: list[ScopeMetrics] | None = None


class Request(Message):
    resource_metrics: list[ResourceMetrics] | None = None


# Lax, because protobuf's JSON writes 64-bit integers and not-a-number as text.
request = Decoder(Request, strict=False)
attributes = Decoder(list[KeyValue] | None, strict=False)
bounds = Decoder(list[float] | None, strict=False)

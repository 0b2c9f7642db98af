"""The formats in which points are sent: how a body is read, and what is answered.

Of a plain format all points are taken or none; of OTLP the good ones, and the others are told of.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Protocol

import msgspec
import numpy as np

from domain.core.db import Database
from domain.core.errors import IdempotencyKeyReused
from domain.core.settings import Settings
from domain.telemetry import columnar, ndjson, otlp, span_series, spans
from domain.telemetry.decoded import Decoded
from domain.telemetry.placing import NO_ACCOUNT, Registry
from domain.telemetry.points import Flaw, PointsRejected, Problem
from domain.telemetry.senders import Sender
from domain.telemetry.slots import Identity

_REASONS = {"at": "time", "time": "time", "value": "value", "count": "value", "account": "account"}
_REASONS |= {"start": "time", "end": "time"}
_REASONS |= dict.fromkeys(("source", "metric", "labels", "series"), "identity")
_WORD = re.compile(r"[a-z]+")


class Generation:
    """Slots, the decoders that fill them, and where the points of each belong."""

    def __init__(self, db: Database, settings: Settings) -> None:
        self.most_age = timedelta(days=settings.keep_minutes)
        self.registry = Registry(db, most_series=settings.most_series, most_sources=settings.most_sources)
        self.ndjson = ndjson.Decoder(self.registry.slots)
        self.otlp = otlp.Decoder(self.registry.slots)
        self.spans = spans.Decoder(self.registry.slots)

    def warm_up(self) -> None:
        """Compile what decodes, or load what was compiled: seconds that the first body need not take."""
        otlp.warm_up()
        self.ndjson.warm_up()
        self.spans.warm_up()


class Format(Protocol):
    """One format, and the `name` under which it is counted."""

    @property
    def name(self) -> str: ...

    async def read(self, generation: Generation, body: bytes, sender: Sender, *, at: datetime) -> Decoded:
        """The points of a body that came `at`. Raises MalformedRequest and PointsRejected."""

    def problem(self, decoded: Decoded, row: int, identity: Identity, flaw: Flaw) -> Problem:
        """Why a row, which is of that identity, has no place."""

    def reply(self, accepted: int, problems: Sequence[Problem]) -> str:
        """The JSON that is kept; raises PointsRejected where problems stand in the way of all."""

    def content(self, reply: str) -> bytes:
        """What is sent of the JSON that was kept; raises IdempotencyKeyReused if it is another format's."""

    def reason(self, problem: Problem) -> str:
        """One of a few words for why a point was refused."""


class _Plain:
    def problem(self, decoded: Decoded, row: int, identity: Identity, flaw: Flaw) -> Problem:
        return Problem(int(decoded.number[row]), *flaw)

    def reply(self, accepted: int, problems: Sequence[Problem]) -> str:
        if problems:
            raise PointsRejected(problems)
        return f'{{"accepted": {accepted}}}'

    def content(self, reply: str) -> bytes:
        _member(reply, "accepted")
        return reply.encode()

    def reason(self, problem: Problem) -> str:
        words = _WORD.findall(problem.field)
        return _reason(problem, words[:1] if words[:1] == ["labels"] else words[-1:])


class Ndjson(_Plain):
    """A point a line."""

    name = "ndjson"

    async def read(self, generation: Generation, body: bytes, sender: Sender, *, at: datetime) -> Decoded:
        return generation.ndjson.decode(body, at=at, oldest=at - generation.most_age)


class Columnar(_Plain):
    """Columns of JSON, for series that were registered before."""

    name = "columnar"

    async def read(self, generation: Generation, body: bytes, sender: Sender, *, at: datetime) -> Decoded:
        registry, parsed = generation.registry, columnar.parse(body)
        pieces = np.split(parsed.series, parsed.ends[:-1])
        strange = await registry.load(list(zip(parsed.accounts, pieces, strict=True)), sender, at=at)
        if strange:
            starts = zip(parsed.accounts, (0, *parsed.ends), strict=False)
            raise PointsRejected(
                [
                    Problem(row + 1, f"accounts[{place}].account", NO_ACCOUNT[1])
                    for place, (name, row) in enumerate(starts)
                    if name in strange
                ]
            )
        return columnar.decode(
            parsed, registry.slots_of, registry.slots, at=at, oldest=at - generation.most_age
        )


class Otlp:
    """An export request of OpenTelemetry's metrics."""

    def __init__(self, *, as_json: bool) -> None:
        self.name = "otlp_json" if as_json else "otlp_protobuf"
        self._as_json = as_json

    async def read(self, generation: Generation, body: bytes, sender: Sender, *, at: datetime) -> Decoded:
        decode = generation.otlp.json if self._as_json else generation.otlp.protobuf
        return decode(body, at=at, oldest=at - generation.most_age)

    def problem(self, decoded: Decoded, row: int, identity: Identity, flaw: Flaw) -> Problem:
        return Problem(int(decoded.number[row]), identity.metric, " ".join(flaw))

    def reply(self, accepted: int, problems: Sequence[Problem]) -> str:
        return f'{{"body": "{otlp.reply(problems, as_json=self._as_json).hex()}"}}'

    def content(self, reply: str) -> bytes:
        return bytes.fromhex(str(_member(reply, "body")))

    def reason(self, problem: Problem) -> str:
        return _reason(problem, _WORD.findall(problem.message)[:1])


class Traces:
    """An export request of OpenTelemetry's traces."""

    def __init__(self, *, as_json: bool) -> None:
        self.name = "otlp_traces_json" if as_json else "otlp_traces_protobuf"
        self._as_json = as_json

    async def read(self, generation: Generation, body: bytes, sender: Sender, *, at: datetime) -> Decoded:
        decode = generation.spans.json if self._as_json else generation.spans.protobuf
        return decode(body, at=at, oldest=at - generation.most_age)

    def problem(self, decoded: Decoded, row: int, identity: Identity, flaw: Flaw) -> Problem:
        """A span is refused with its requests; without its latency alone it is counted all the same."""
        parts = int(decoded.value[row]) if identity.metric == span_series.REQUESTS else 0
        return Problem(int(decoded.number[row]), identity.metric, " ".join(flaw), parts)

    def reply(self, accepted: int, problems: Sequence[Problem]) -> str:
        return f'{{"spans": "{spans.reply(problems, as_json=self._as_json).hex()}"}}'

    def content(self, reply: str) -> bytes:
        return bytes.fromhex(str(_member(reply, "spans")))

    def reason(self, problem: Problem) -> str:
        return _reason(problem, _WORD.findall(problem.message)[:1])


def _reason(problem: Problem, words: Sequence[str]) -> str:
    if "too many" in problem.message:
        return "limit"
    return next((_REASONS[word] for word in words if word in _REASONS), "other")


def _member(reply: str, name: str) -> object:
    kept = msgspec.json.decode(reply)
    if name not in kept:
        raise IdempotencyKeyReused("This Idempotency-Key was used before with another format.")
    return kept[name]

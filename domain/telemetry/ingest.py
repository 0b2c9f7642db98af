"""Takes points in, from a body to a durable acknowledgement: decoded, placed, written once, answered."""

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Protocol

import numpy as np

from domain.core.db import Database
from domain.core.settings import Settings
from domain.telemetry import batches, columnar, columns, outages
from domain.telemetry.admission import Admission
from domain.telemetry.batches import Entry, Outcome
from domain.telemetry.columns import Columns
from domain.telemetry.flusher import Flusher
from domain.telemetry.formats import Format, Generation
from domain.telemetry.points import MalformedRequest, PointsRejected, Problem, metric
from domain.telemetry.senders import Sender
from domain.telemetry.slots import Identity

_MINUTE_S, _LATE_S = 60, 300
_WORTH_A_THREAD = 65_536
_RECENT, _PLAIN_REPLY = 10_000, 100


class Counts(Protocol):
    """Where is counted what was taken and refused."""

    def add(self, name: str, amount: float = 1, **labels: str) -> None: ...


@dataclass(frozen=True)
class Request:
    """One request to take points: who sends it, and what makes a repetition the same.

    `scope` is whose rows the sender may write, `subject` the key it sends with: two keys of one account
    are two senders. `body_hash` is that of `hashed`. `door` is the path that it came to: the same bytes
    say something else at another one.
    """

    scope: str
    subject: str
    body: bytes
    body_hash: bytes
    idempotency_key: str | None
    is_backfill: bool
    received_at: datetime
    door: str = ""

    @cached_property
    def key(self) -> bytes:
        """The hash of the sender and the key it gave, or else of the sender and what the body is to do."""
        given = self.idempotency_key
        what = f"body:{self.door}:{'backfill' if self.is_backfill else 'live'}:".encode() + self.body_hash
        part = what if given is None else b"key:" + given.encode()
        return _sha256(self.subject.encode() + b"\0" + part)

    @property
    def sender(self) -> Sender:
        return Sender(self.scope, self.subject)


def _sha256(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()


async def hashed(body: bytes) -> bytes:
    """SHA-256; of much in a thread, since it takes a tenth of all that is done to take points in."""
    if len(body) < _WORTH_A_THREAD:
        return _sha256(body)
    return await asyncio.get_running_loop().run_in_executor(None, _sha256, body)


@dataclass(frozen=True)
class Answer:
    """What to send back, and whether the points were new: a repetition has its first answer."""

    content: bytes
    is_new: bool


class Intake:
    """What the requests of one process share, from `start` to `stop`, in the event loop that started it.

    A repetition is answered from memory where this process took the first one lately. Otherwise the
    transaction that writes finds out: to ask the database beforehand would make every new request wait.
    """

    def __init__(self, db: Database, settings: Settings, counts: Counts) -> None:
        self.db, self._settings, self._counts = db, settings, counts
        lag = timedelta(seconds=settings.ingest_most_lag)
        self.admission = Admission(db, most_bytes=settings.ingest_waiting, most_lag=lag)
        self.flusher = Flusher(db)
        self._recent: OrderedDict[bytes, Outcome] = OrderedDict()
        self._generation = Generation(db, settings)

    def start(self) -> None:
        """Takes seconds where nothing was compiled yet."""
        self._generation.warm_up()
        self.admission.start()
        self.flusher.start()

    async def stop(self) -> None:
        """Return when all that was handed in is written or refused."""
        await self.flusher.stop()
        await self.admission.stop()

    def forget(self) -> None:
        """Begin with no series known; requests under way go on with what they know."""
        self._recent.clear()
        self._generation = Generation(self.db, self._settings)

    async def take(self, request: Request, form: Format) -> Answer:
        """Return once the points, or those of the first such request, are durable.

        Raises MalformedRequest and PointsRejected where nothing is taken, IdempotencyKeyReused, Unavailable.
        """
        known = self._recent.get(request.key)
        outcome = known.require(request.body_hash) if known else await self._append(request, form)
        return Answer(form.content(outcome.reply), outcome.is_new)

    async def register(self, request: Request) -> list[int]:
        """The numbers of series, in the order of the body; raises as `take`.

        Where some have none, the others have: sent again they are the same.
        """
        named = [Identity(*one, metric(one[1]).kind) for one in columnar.parse_series(request.body)]
        with outages.told():
            registry = self._current().registry
            found = await registry.register(named, request.sender, at=request.received_at)
        problems = [
            Problem(place + 1, f"series[{place}].{flaw[0]}", flaw[1])
            for place, flaw in enumerate(found)
            if not isinstance(flaw, int)
        ]
        if problems:
            raise PointsRejected(problems)
        return [number for number in found if isinstance(number, int)]

    async def _append(self, request: Request, form: Format) -> Outcome:
        try:
            with outages.told():
                batch, problems = await self._read(request, form)
            reply = form.reply(len(batch), problems)
        except (MalformedRequest, PointsRejected) as refusal:
            return await self._earlier(request, refusal, form)
        outcome = await self.flusher.append(_entry(request, batch, reply))
        if outcome.is_new:
            self._count(request, batch, problems, form)
        self._remember(request.key, outcome)
        return outcome

    async def _read(self, request: Request, form: Format) -> tuple[Columns, list[Problem]]:
        """The points that can be kept, and why others cannot."""
        generation, sender, at = self._current(), request.sender, request.received_at
        decoded = await form.read(generation, request.body, sender, at=at)
        placed = await generation.registry.place(decoded, sender, at=at)
        identities = generation.registry.slots.identities
        homeless = [
            form.problem(decoded, row, identities[decoded.slot[row]], flaw)
            for row, flaw in placed.refused.items()
        ]
        return placed.columns, decoded.problems + homeless

    async def _earlier(
        self, request: Request, refusal: MalformedRequest | PointsRejected, form: Format
    ) -> Outcome:
        """What was taken before is answered alike, even if it would now be refused."""
        with outages.told():
            earlier = await batches.earlier(self.db, request.key)
        if earlier is None:
            self._count_refusal(refusal, form)
            raise refusal
        return earlier.require(request.body_hash)

    def _current(self) -> Generation:
        if self._generation.registry.is_full:
            self._generation = Generation(self.db, self._settings)
        return self._generation

    def _remember(self, key: bytes, outcome: Outcome) -> None:
        """But for replies that tell of refusals: they may be long."""
        if len(outcome.reply) <= _PLAIN_REPLY:
            self._recent[key] = outcome._replace(is_new=False)
            if len(self._recent) > _RECENT:
                self._recent.popitem(last=False)

    def _count(self, request: Request, batch: Columns, problems: Sequence[Problem], form: Format) -> None:
        self._counts.add("vitals_ingest_points_total", len(batch), format=form.name)
        self._count_refused(problems, form)
        if not request.is_backfill:
            latest = request.received_at.timestamp() - _LATE_S - _MINUTE_S
            self._counts.add("vitals_ingest_late_points_total", int(np.count_nonzero(batch.at < latest)))

    def _count_refusal(self, refusal: MalformedRequest | PointsRejected, form: Format) -> None:
        if isinstance(refusal, PointsRejected):
            self._count_refused(refusal.problems, form)
            unnamed = refusal.total - len(refusal.problems)
            self._counts.add("vitals_ingest_refused_total", unnamed, format=form.name, reason="other")

    def _count_refused(self, problems: Sequence[Problem], form: Format) -> None:
        for problem in problems:
            reason = form.reason(problem)
            self._counts.add("vitals_ingest_refused_total", problem.parts, format=form.name, reason=reason)


def _entry(request: Request, batch: Columns, reply: str) -> Entry:
    return Entry(
        key=request.key,
        scope=request.scope,
        body_hash=request.body_hash,
        reply=reply,
        received_at=request.received_at,
        is_backfill=request.is_backfill,
        points=len(batch),
        columns=columns.encode(batch) if len(batch) else b"",
    )

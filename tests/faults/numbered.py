"""Numbered points and their senders.

Each point adds its number to a cell of its own, so that one that is missing or doubled shows.
"""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection, HTTPException
from itertools import count
from typing import NamedTuple
from urllib.parse import urlsplit

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    Metric,
    NumberDataPoint,
)

from domain.telemetry import blocks, columns
from domain.telemetry.columns import Columns
from tests.faults.installation import Installation

SIZE = 100  # points of a request
_MINUTES = 500  # a series has so many, before the next series begins
_SECOND = 10**9
_TIMEOUT_S = 120  # whoever is not answered by then hangs
_PAUSE_S = 0.05

Cell = tuple[str, str, int]
"""Account, issuer, and minute (epoch seconds)."""


class Numbers:
    """The points of one test, from the first number on; their minutes are of the hours before it began."""

    def __init__(self, accounts: Sequence[str]) -> None:
        self._accounts = accounts
        start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=_MINUTES + 10)
        self._start = int(start.timestamp())

    def cell(self, number: int) -> Cell:
        series, minute = divmod(number, _MINUTES)
        account = self._accounts[series % len(self._accounts)]
        return account, f"bank-{series}", self._start + 60 * minute

    def cells(self, requests: Sequence[int]) -> dict[Cell, float]:
        """What the points of these requests come to where each was taken once."""
        numbers = (number for one in requests for number in range(one * SIZE, (one + 1) * SIZE))
        return {self.cell(number): number + 1.0 for number in numbers}

    def body(self, request: int) -> bytes:
        """The points of a request, as deltas: nothing but its key keeps a repetition from adding up."""
        export = ExportMetricsServiceRequest()
        for number in range(request * SIZE, (request + 1) * SIZE):
            account, issuer, at = self.cell(number)
            resource = export.resource_metrics.add()
            resource.resource.attributes.extend([_attribute("vitals.account", account)])
            metric = resource.scope_metrics.add().metrics.add(name="payments.count")
            _fill(metric, issuer, at, number + 1)
        return export.SerializeToString()


def _fill(metric: Metric, issuer: str, at: int, value: int) -> None:
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    metric.sum.is_monotonic = True
    labels = [_attribute("outcome", "approved"), _attribute("issuer", issuer)]
    time_unix_nano = (at + 30) * _SECOND
    metric.sum.data_points.append(
        NumberDataPoint(
            attributes=labels,
            start_time_unix_nano=at * _SECOND,
            time_unix_nano=time_unix_nano,
            as_int=value,
        )
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


class Reply(NamedTuple):
    """What was answered; `retry_after` is None where the header is missing."""

    status: int
    retry_after: str | None

    @property
    def is_refusal(self) -> bool:
        """Whether it says to come again, and when."""
        return self.status in (429, 503) and (self.retry_after or "").isdecimal()


class Line:
    """One sender's connection, opened again when it was lost."""

    def __init__(self, key: str, *, path: str = "/v1/metrics", media: str = "application/x-protobuf") -> None:
        self._path, self._open = path, ("", HTTPConnection("127.0.0.1"))
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": media}

    def post(self, url: str, body: bytes, idempotency_key: str | None) -> Reply | None:
        """The answer, or None where the connection was lost before it came."""
        headers = {"Idempotency-Key": idempotency_key} if idempotency_key else {}
        connection = self._connection(url)
        try:
            connection.request("POST", self._path, body, self._headers | headers)
            found = connection.getresponse()
            found.read()
        except TimeoutError:
            raise
        except (OSError, HTTPException):
            connection.close()
            return None
        return Reply(found.status, found.headers["Retry-After"])

    def close(self) -> None:
        self._open[1].close()

    def _connection(self, url: str) -> HTTPConnection:
        if self._open[0] != url:
            self.close()
            address = urlsplit(url)
            assert address.hostname is not None
            self._open = url, HTTPConnection(address.hostname, address.port, timeout=_TIMEOUT_S)
        return self._open[1]


class Senders:
    """Several senders at once, who send each request until it is acknowledged, to one process or another.

    They go on only as far as they were `allow`ed to. Every other request has an Idempotency-Key, the others
    are known by their body; every fifth is sent once more after it was acknowledged.
    """

    def __init__(self, numbers: Numbers, *, urls: Sequence[str], key: str, requests: int) -> None:
        self._numbers, self._urls, self._key = numbers, urls, key
        self._requests, self._next, self._turn = requests, count(), threading.Lock()
        self._allowed, self._gate = 0, threading.Condition()
        self._given_up = False
        self.acknowledged: set[int] = set()
        self.heard: Counter[Reply | None] = Counter()
        self.failures: list[BaseException] = []

    def run(self, threads: int = 8) -> "Senders":
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(threads)]
        for one in self._threads:
            one.start()
        return self

    def allow(self, requests: int) -> None:
        """Let them send so many more."""
        with self._gate:
            self._allowed += requests
            self._gate.notify_all()

    def finish(self) -> None:
        """Return once all requests were acknowledged."""
        self.allow(self._requests)
        for one in self._threads:
            one.join()
        if self.failures:
            raise self.failures[0]

    def give_up(self) -> None:
        self._given_up = True
        self.finish()

    def __enter__(self) -> "Senders":
        return self.run()

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.finish()
        else:
            self._given_up = True
            self.allow(self._requests)

    def _work(self) -> None:
        line = Line(self._key)
        try:
            for request in self._turns():
                self._send(line, request)
                self.acknowledged.add(request)
                if request % 5 == 0:
                    self._send(line, request)
        except BaseException as failure:
            self.failures.append(failure)
            raise
        finally:
            line.close()

    def _turns(self) -> Iterator[int]:
        """The next request of all, once it is allowed."""
        while True:
            with self._turn:
                request = next(self._next)
            if request >= self._requests:
                return
            with self._gate:
                self._gate.wait_for(lambda one=request: one < self._allowed)
            if self._given_up:
                return
            yield request

    def _send(self, line: Line, request: int) -> None:
        """Until it is acknowledged: each time to the next process."""
        body, key = self._numbers.body(request), f"request {request}" if request % 2 else None
        for attempt in count(request):
            reply = line.post(self._urls[attempt % len(self._urls)], body, key)
            self.heard[reply] += 1
            if self._given_up or (reply is not None and reply.status == 200):
                return
            time.sleep(_PAUSE_S)


def stored(installation: Installation, accounts: Sequence[str]) -> dict[Cell, float]:
    """What the minutes of these accounts hold, all sources together."""
    rows = installation.fetch(
        "SELECT a.external_id, m.shard, m.at, m.cells FROM minutes m JOIN accounts a ON a.id = m.account_id"
        " WHERE a.external_id = ANY ($1)",
        accounts,
    )
    issuers = _issuers(installation, accounts)
    found: Counter[Cell] = Counter()
    for row in rows:
        for number, value, _ in blocks.rows(row["cells"], shard=row["shard"]):
            account = row["external_id"]
            found[account, issuers[account, number], int(row["at"].timestamp())] += value  # type: ignore[assignment]
    return dict(found)


def logged(installation: Installation, accounts: Sequence[str]) -> dict[Cell, float]:
    """What the log holds of these accounts, added up."""
    names = {
        row["id"]: row["external_id"]
        for row in installation.fetch(
            "SELECT id, external_id FROM accounts WHERE external_id = ANY ($1)", accounts
        )
    }
    issuers = _issuers(installation, accounts)
    found: Counter[Cell] = Counter()
    for row in installation.fetch("SELECT columns FROM ingest_log"):
        for account_id, number, at, value in _rows(columns.decode(row["columns"])):
            if account := names.get(account_id):
                found[account, issuers[account, number], at] += value
    return dict(found)


def _rows(batch: Columns) -> Iterator[tuple[object, int, int, float]]:
    accounts = [batch.accounts[index] for index in batch.account.tolist()]
    return zip(accounts, batch.number.tolist(), batch.at.tolist(), batch.value.tolist(), strict=True)


def _issuers(installation: Installation, accounts: Sequence[str]) -> dict[tuple[str, int], str]:
    rows = installation.fetch(
        "SELECT a.external_id, s.number, s.labels->>'issuer' AS issuer FROM series s"
        " JOIN accounts a ON a.id = s.account_id WHERE s.number IS NOT NULL AND a.external_id = ANY ($1)",
        accounts,
    )
    return {(row["external_id"], row["number"]): row["issuer"] for row in rows}


def require_same(found: dict[Cell, float], sent: dict[Cell, float]) -> None:
    """Each point once: none is missing, none is doubled, and there is none that nobody sent."""
    missing = [cell for cell in sent if cell not in found]
    wrong = {cell: (found[cell], sent[cell]) for cell in found if found[cell] != sent.get(cell)}
    assert (len(missing), missing[:3]) == (0, [])
    assert (len(wrong), list(wrong.items())[:3]) == (0, [])

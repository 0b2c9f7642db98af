"""Senders over HTTP that keep what they are told: acknowledged, refused, or lost with the connection."""

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from http.client import HTTPConnection, HTTPException
from itertools import count, takewhile
from typing import NamedTuple
from urllib.parse import urlsplit

from tests.faults.installation import wait_for
from tests.faults.numbered import Numbers

_SENDERS = 8
_TIMEOUT_S = 120  # whoever is not answered by then hangs
_PAUSE_S = 0.05


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
    are known by their body.
    """

    def __init__(self, numbers: Numbers, *, urls: Sequence[str], key: str, requests: int) -> None:
        self._bodies = [
            numbers.body(request) for request in range(requests)
        ]  # they send, and do nothing else
        self._urls, self._key, self._next = urls, key, count()
        self._allowed, self._gate = 0, threading.Condition()
        self._given_up = False
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_SENDERS)]
        self.acknowledged: set[int] = set()
        self.heard: Counter[Reply | None] = Counter()
        self.failures: list[BaseException] = []

    def allow(self, requests: int, *, until: int = 0) -> None:
        """Let them send so many more; return once so many more are acknowledged, or a sender failed."""
        enough = len(self.acknowledged) + until
        with self._gate:
            self._allowed += requests
            self._gate.notify_all()
        wait_for(lambda: len(self.acknowledged) >= enough or self.failures)

    def wait_for_all(self) -> None:
        """Return once all that they were allowed is acknowledged, or a sender failed."""
        wait_for(lambda: len(self.acknowledged) >= self._allowed or self.failures)

    def wait_for_refusals(self, times: int) -> None:
        """Return once so many more answers were refusals, or a sender failed."""
        enough = self.refusals + times
        wait_for(lambda: self.refusals >= enough or self.failures)

    @property
    def refusals(self) -> int:
        """How many answers said to come again."""
        return sum(times for reply, times in self.heard.copy().items() if reply and reply.is_refusal)

    def repeat(self) -> None:
        """Send what was acknowledged once more, to every process."""
        line = Line(self._key)
        for request in sorted(self.acknowledged):
            for url in self._urls:
                self._send(line, request, [url])
        line.close()

    def __enter__(self) -> "Senders":
        for one in self._threads:
            one.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Return once all requests were acknowledged; after a failure, once all senders gave up."""
        self._given_up = kind is not None
        self.allow(len(self._bodies))
        for one in self._threads:
            one.join()
        if self.failures and kind is None:
            raise self.failures[0]

    def _work(self) -> None:
        line = Line(self._key)
        try:
            for request in self._turns():
                self._send(line, request, self._urls)
                self.acknowledged.add(request)
        except BaseException as failure:
            self.failures.append(failure)
            raise
        finally:
            line.close()

    def _turns(self) -> Iterator[int]:
        """One of all requests after the other, each once it is allowed."""
        for request in takewhile(lambda one: one < len(self._bodies), self._next):
            with self._gate:
                while request >= self._allowed:
                    self._gate.wait()
            if self._given_up:
                return
            yield request

    def _send(self, line: Line, request: int, urls: Sequence[str]) -> None:
        """Until it is acknowledged: each time to the next of these processes."""
        body, key = self._bodies[request], f"request {request}" if request % 2 else None
        for attempt in count(request):
            reply = line.post(urls[attempt % len(urls)], body, key)
            self.heard[reply] += 1
            if self._given_up or (reply is not None and reply.status == 200):
                return
            time.sleep(_PAUSE_S)

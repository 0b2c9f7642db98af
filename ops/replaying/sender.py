"""Sends parcels over HTTP, one after the other; a request is repeated under its key until it is answered."""

import gzip
import ipaddress
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

from domain.core.ids import uuid7
from ops.replaying.parcels import Parcel

_FIRST_DELAY_S, _LONGEST_DELAY_S = 0.5, 15.0
_TIMEOUT_S = 60.0
_TOO_MANY = 429
_WORTH_PACKING = 1_000  # bytes


@dataclass(frozen=True)
class Problem:
    """What the server says of one line of a request (0: of all of it)."""

    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.field} {self.message}".strip()


class Refused(Exception):
    """The server took nothing of a request. `problems` are the first of them; `status` is HTTP's."""

    def __init__(self, status: int, message: str, problems: list[Problem]) -> None:
        super().__init__(message)
        self.status, self.problems = status, problems


class Unreachable(Exception):
    """Nobody answered for as long as the sender was patient."""


class Sender:
    """`patience_s` is how long one request is repeated while nobody answers, or all say `later`."""

    def __init__(
        self,
        client: httpx.Client,
        *,
        patience_s: float = 60.0,
        say: Callable[[str], None],
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client, self._patience_s, self._say, self._sleep = client, patience_s, say, sleep
        self._run, self._number = uuid7(), 0

    def send(self, parcel: Parcel) -> None:
        """Return once it is acknowledged; raises Refused or Unreachable."""
        self._number += 1
        request = self._request(parcel, key=f"{self._run}-{self._number}")
        for delay_s in _delays(self._patience_s):
            problem, wait_s = self._attempt(request)
            if problem is None:
                return
            wait_s = max(delay_s, wait_s)
            self._say(f"{problem}; trying again in {wait_s:g} s")
            self._sleep(wait_s)
        problem, _ = self._attempt(request)
        if problem is not None:
            raise Unreachable(problem)

    def _request(self, parcel: Parcel, *, key: str) -> httpx.Request:
        headers = {"Idempotency-Key": key, "Content-Type": "application/x-ndjson"}
        body = parcel.body
        if len(body) > _WORTH_PACKING:
            body, headers["Content-Encoding"] = gzip.compress(body, compresslevel=1, mtime=0), "gzip"
        return self._client.build_request(
            "POST", parcel.path, params=dict(parcel.params), content=body, headers=headers
        )

    def _attempt(self, request: httpx.Request) -> tuple[str | None, float]:
        """(None, 0) once taken, or why to try again and in how many seconds at the earliest."""
        try:
            answer = self._client.send(request)
        except httpx.TransportError as error:
            return f"{request.url.netloc.decode()} does not answer: {error or type(error).__name__}", 0.0
        if answer.is_success:
            return None, 0.0
        if answer.status_code == _TOO_MANY or answer.is_server_error:
            return f"the server answers {answer.status_code}: {_message(answer)}", _retry_after(answer)
        raise _refusal(answer)


def connect(url: str, key: str) -> httpx.Client:
    """A client of the API at `url`; a proxy named in the environment is not asked for this machine."""
    return httpx.Client(
        base_url=url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=_TIMEOUT_S,
        trust_env=not is_local(url),
    )


def is_local(url: str) -> bool:
    """Whether it is an address of this machine."""
    host = httpx.URL(url).host
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _delays(patience_s: float) -> Iterator[float]:
    delay_s, waited_s = _FIRST_DELAY_S, 0.0
    while waited_s + delay_s <= patience_s:
        yield delay_s
        waited_s, delay_s = waited_s + delay_s, min(2 * delay_s, _LONGEST_DELAY_S)


def _retry_after(answer: httpx.Response) -> float:
    text = answer.headers.get("Retry-After", "")
    return float(text) if text.isdecimal() else 0.0


def _content(answer: httpx.Response) -> dict[str, Any]:
    try:
        error = answer.json()["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _message(answer: httpx.Response) -> str:
    return str(_content(answer).get("message") or answer.reason_phrase or "no reason given")


def _refusal(answer: httpx.Response) -> Refused:
    found = _content(answer).get("problems") or []
    problems = [Problem(one.get("line", 0), one.get("field", ""), one.get("message", "")) for one in found]
    return Refused(answer.status_code, _message(answer), problems)

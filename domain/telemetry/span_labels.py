"""What a SERVER span says of the request it served: path, method and status, each of few different values.

URLs and methods are chosen by whoever calls: what is not known to be one of few is left out.
"""

import re
from typing import NamedTuple

from domain.telemetry.otlp_attributes import Texts
from domain.telemetry.points import MAX_TEXT

OTHER = "_OTHER"
"""A method that HTTP does not know, as in the semantic conventions of `http.request.method`."""
READ = frozenset(
    (
        *("http.route", "url.template", "rpc.service", "rpc.method"),
        *("http.request.method", "http.method"),
        *("http.response.status_code", "http.status_code"),
    )
)
"""The attributes that are read here."""
_METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY")
_STATUS = re.compile(r"[1-5][0-9]{2}")
_NOT_FOUND = "404"
_BEFORE_PATH = re.compile(rf"(?:HTTP(?: |$))?(?:(?:{'|'.join(_METHODS)})(?: |$))?")
_PLACEHOLDER = re.compile(r"\{[^{}]*\}|<[^<>]*>|\[[^\[\]]*\]|(?<=/):\w+|\*")
_VERSION = re.compile(r"\bv[0-9]+(?:(?:alpha|beta)[0-9]*)?\b", re.ASCII)
_WORDS = re.compile(r"[A-Za-z_./ -]*")


class Request(NamedTuple):
    """What is not told, or not told in one of few ways, is empty."""

    path: str
    method: str
    status: str


def request(name: str, found: Texts) -> Request:
    """The request that a span of this name and with these attributes served."""
    status = found.get("http.response.status_code") or found.get("http.status_code") or ""
    status = status if _STATUS.fullmatch(status) else ""
    path = found.get("http.route") or _call(found) or found.get("url.template")
    return Request(path or _named(name, status), _method(found), status)


def _call(found: Texts) -> str:
    """A remote procedure: newer conventions name it in one attribute, older ones in two."""
    service, method = found.get("rpc.service") or "", found.get("rpc.method") or ""
    return method if "/" in method else "/".join(filter(None, (service, method)))


def _named(name: str, status: str) -> str:
    """The path in a span's name, if it is of words and placeholders: a digit may be part of an id.

    Of what was not found the name may be all that anyone asks for, unless it has placeholders.
    """
    path = _BEFORE_PATH.sub("", name, count=1)
    rest = _PLACEHOLDER.sub("", path)
    is_of_words = _WORDS.fullmatch(_VERSION.sub("", rest)) is not None
    if len(path) > MAX_TEXT or not is_of_words or (status == _NOT_FOUND and rest == path):
        return ""
    return path


def _method(found: Texts) -> str:
    method = (found.get("http.request.method") or found.get("http.method") or "").upper()
    return method if method in _METHODS else method and OTHER

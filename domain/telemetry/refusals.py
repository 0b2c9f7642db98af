"""The JSON decoder's refusals in our words: which field is wrong, and what it must be."""

import re
from collections.abc import Mapping

import msgspec

from domain.telemetry.points import Flaw, MalformedRequest

MAX_OBJECTS = 400_000
MAX_NAME = 64  # characters of a sender's own name for a field that are said back

_MISSING = re.compile(r"Object missing required field `(\w+)`(?: - at `\$\.(.+)`)?")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*?)`(?: - at `\$\.(\w+\[\d+\])`)?", re.DOTALL)
_WRONG = re.compile(r".* - at `\$\.(.+)`")
_MALFORMED = re.compile(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)")
_INDEX = re.compile(r"\[\d+\]")


def require_few_objects(body: bytes) -> None:
    """So that no JSON takes many times its size once it is read. Raises MalformedRequest."""
    if body.count(b"{") > MAX_OBJECTS:
        raise MalformedRequest("The body holds too many objects: send it in parts.")


def explain(error: Exception, expected: Mapping[str, str], *, text: bytes) -> Flaw:
    """The field (empty for the whole) of `text` and what is wrong with it.

    `expected` says what each field must be, by its path with `[]` for any index. The texts of the
    decoder are held by the tests.
    """
    message = str(error)
    if unknown := _UNKNOWN.fullmatch(message):
        within = f"{unknown[2]}." if unknown[2] else ""
        return within + unknown[1][:MAX_NAME], f"is not a field; the fields are {_fields(expected, within)}"
    if missing := _MISSING.fullmatch(message):
        return ".".join(filter(None, (missing[2], missing[1]))), "is missing"
    if wrong := _WRONG.fullmatch(message):
        return wrong[1], expected[_INDEX.sub("[]", wrong[1])]
    if isinstance(error, msgspec.ValidationError):
        return "", "must be a JSON object"
    return "", _malformed(error, text)


def _fields(expected: Mapping[str, str], within: str) -> str:
    """The names of the fields of an object, whose path is `within`."""
    prefix = _INDEX.sub("[]", within)
    names = (path.removeprefix(prefix) for path in expected if path.startswith(prefix))
    return ", ".join(name for name in names if name.isidentifier())


def _malformed(error: Exception, text: bytes) -> str:
    if isinstance(error, RecursionError):
        return "is nested too deeply"
    if byte := _MALFORMED.match(str(error)):
        # The decoder counts from 0, but has already passed a character too many.
        offset = int(byte[2]) - (byte[1] == "trailing characters")
        column = len(text[:offset].decode(errors="replace")) + 1
        return f"is not JSON at column {column}: {byte[1]}"
    return "is not JSON: it ends too early, or in half a surrogate pair"

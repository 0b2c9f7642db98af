"""Global ids: base64 of `Type:uuid`. What is not one names no object; it is never an error of ours."""

import base64
import binascii
from typing import Any
from uuid import UUID

from strawberry import ID

from domain.core.errors import InvalidInput, NotFound


class UnknownId(NotFound):
    """A text that is no id of the kind of object that is asked for; `key` is the text."""

    def __init__(self, text: str) -> None:
        super().__init__("object", text)


def encode(kind: str, key: object) -> ID:
    return ID(base64.urlsafe_b64encode(f"{kind}:{key}".encode()).decode().rstrip("="))


def of(row: Any) -> ID:
    """The global id of a row: its class is named as its type."""
    return encode(type(row).__name__, row.id)


def decode(text: str) -> tuple[str, UUID] | None:
    """Kind and key, or None where the text is not an id."""
    try:
        raw = base64.urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4)).decode("ascii")
        kind, _, key = raw.partition(":")
        found = kind, UUID(key)
    except (ValueError, binascii.Error):
        return None
    return found if encode(*found) == text else None


def key(text: str, kind: str) -> UUID | None:
    """The key of an object of `kind`; None for anything else, which no such object has."""
    found = decode(text)
    return found[1] if found and found[0] == kind else None


def required(text: str, kind: str) -> UUID:
    """The same for a mutation, which answers NotFound."""
    found = key(text, kind)
    if found is None:
        raise UnknownId(text)
    return found


def keys(texts: list[ID], *kinds: str) -> dict[str, list[UUID]]:
    """The keys by kind; ids of other kinds match nothing and are left out. At most 100 are taken."""
    if len(texts) > 100:
        raise InvalidInput(f"At most 100 ids can be given, not {len(texts)}.", path=("ids",))
    found = [pair for text in texts if (pair := decode(text))]
    return {kind: [key for of_kind, key in found if of_kind == kind] for kind in kinds}

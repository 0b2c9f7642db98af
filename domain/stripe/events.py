"""An event as Stripe sends it, with its object (`event`) or as a thin notification (`v2.core.event`).

The envelope is read strictly; what is in it is read by who understands the type.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import msgspec
from msgspec import Raw, Struct

from domain.stripe.models import NoEvent

KEEP = timedelta(days=30)
"""So long an event may be sent again, waits for what it lacks, and is known by its id."""
AHEAD = timedelta(minutes=5)

_ID = re.compile(r"[A-Za-z0-9_]{1,200}")
_TYPE = re.compile(r"[a-z0-9_]{1,60}(\.[a-z0-9_]{1,60}){0,9}")
_LAST_S = 253_402_300_799  # of the year 9999
_NULL, _NOTHING = Raw(b"null"), b"{}"


class _Data(Struct):
    object: Raw = _NULL
    previous_attributes: Raw = _NULL


class _Envelope(Struct):
    id: str
    object: str
    type: str
    created: int | str
    livemode: bool = True
    account: str | None = None
    context: str | None = None
    data: Raw = _NULL


@dataclass(frozen=True)
class Event:
    """What Stripe says happened at `created_at`; `account` is whose it is, None: the endpoint's own.

    `object` is JSON, as it was after it happened, `previous` those attributes that changed.
    """

    id: str
    type: str
    created_at: datetime
    is_live: bool
    account: str | None
    is_thin: bool
    object: bytes
    previous: bytes
    body: bytes


def is_id(text: str) -> bool:
    """Whether Stripe may have given it to an object."""
    return _ID.fullmatch(text) is not None


def parse(body: bytes) -> Event:
    """Raises NoEvent for everything that is not an event."""
    try:
        envelope = msgspec.json.decode(body, type=_Envelope)
        data = _data(envelope)
    except msgspec.ValidationError as error:
        raise NoEvent(f"The body is no event of Stripe's: {error}.") from None
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise NoEvent("The body is not JSON.") from None
    account = envelope.account or _last_of(envelope.context)
    _require(is_id(envelope.id), "id")
    _require(_TYPE.fullmatch(envelope.type), "type")
    _require(account is None or is_id(account), "account")
    return Event(
        id=envelope.id,
        type=envelope.type,
        created_at=_instant(envelope.created),
        is_live=envelope.livemode,
        account=account,
        is_thin=envelope.object == "v2.core.event",
        object=_given(data.object),
        previous=_given(data.previous_attributes),
        body=body,
    )


def age_flaw(event: Event, at: datetime) -> str | None:
    """Why the event comes too late or too early to be taken in; None when it does not."""
    if event.created_at < at - KEEP:
        return f"It happened more than {KEEP.days} days before it came."
    if event.created_at > at + AHEAD:
        return "It is said to happen in the future."
    return None


def _data(envelope: _Envelope) -> _Data:
    """A thin notification has none; that which is fetched for it has another form, kept as it is."""
    if envelope.object == "v2.core.event":
        return _Data(object=envelope.data)
    _require(envelope.object == "event", "object")
    return msgspec.json.decode(_given(envelope.data), type=_Data)


def _given(part: Raw) -> bytes:
    """An empty object for what is null or left out."""
    content = bytes(part)
    return _NOTHING if content == _NULL else content


def _last_of(context: str | None) -> str | None:
    """The account of a context, which may lead there from an organization (`org_1/acct_2`)."""
    return context.rpartition("/")[2] if context else None


def _instant(created: int | str) -> datetime:
    """Epoch seconds, or RFC 3339 as API v2 has it."""
    if isinstance(created, int):
        _require(0 <= created <= _LAST_S, "created")
        return datetime.fromtimestamp(created, UTC)
    try:
        instant = datetime.fromisoformat(created)
        return instant.astimezone(UTC) if instant.tzinfo else instant.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise NoEvent("The body is no event of Stripe's: created cannot be read.") from None


def _require(found: object, name: str) -> None:
    if not found:
        raise NoEvent(f"The body is no event of Stripe's: {name} cannot be read.")

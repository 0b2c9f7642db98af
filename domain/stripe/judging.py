"""What becomes of an event by itself, before it is known whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from domain.stripe import events, facts
from domain.stripe.events import Event
from domain.stripe.facts import Fact, Unreadable
from domain.stripe.models import State

THIN = "v2.core."
HEALTH = "v2.core.health."


@dataclass(frozen=True)
class Verdict:
    """The state, why it is so where that must be told, and what a TAKEN event adds to which merchant."""

    state: State
    remark: str | None = None
    facts: Sequence[Fact] = ()
    merchant: str | None = None


def judge(event: Event, *, takes_tests: bool, at: datetime) -> Verdict:
    """Types that are not known and events of test mode are left alone; a notification is to be resolved."""
    if not event.is_live and not takes_tests:
        return Verdict(State.IGNORED, "It is of test mode, which the endpoint does not take.")
    if not is_understood(event):
        return Verdict(State.IGNORED, "Its type is not known.")
    if flaw := events.age_flaw(event, at):
        return Verdict(State.FAILED, flaw)
    if event.is_thin:
        return Verdict(State.UNRESOLVED)
    try:
        return Verdict(State.TAKEN, None, facts.of(event), facts.merchant(event))
    except Unreadable as error:
        return Verdict(State.FAILED, str(error))


def is_understood(event: Event) -> bool:
    return event.type.startswith(THIN) if event.is_thin else facts.is_known(event.type)


def kind(event: Event) -> str:
    """The type, as one of a closed set."""
    if not is_understood(event):
        return "unknown"
    return THIN.rstrip(".") if event.is_thin else event.type

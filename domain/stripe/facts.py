"""What an event says of payments, refunds, disputes and payouts: each outcome is said by one event alone.

Charges say what became of attempts. A payment intent adds only what no charge says, so that an attempt is
counted once whichever events come, and in whatever order. The rules stand in docs/stripe.md.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar

import msgspec

from domain.stripe import events
from domain.stripe.events import Event
from domain.stripe.shapes import (
    Before,
    Billing,
    Charge,
    Dispute,
    Merchant,
    PaymentError,
    PaymentIntent,
    PaymentMethod,
    Payout,
    Refund,
)
from domain.telemetry.points import Kind, Labels, labels

T = TypeVar("T")
_COUNTRY = re.compile(r"[A-Z]{2}")
_BEFORE_ANY_CHARGE = "payment_intent_authentication_failure"


class Fact(NamedTuple):
    """What an event adds to a series of its account, in the minute in which it happened."""

    metric: str
    kind: Kind
    value: int
    labels: Labels


class Unreadable(ValueError):
    """The object of an event is not of the form that its type has."""


def of(event: Event) -> list[Fact]:
    """What the event adds, often nothing. Raises Unreadable; KeyError for a type that is not known."""
    return SAID_BY[event.type](event)


def is_known(type_: str) -> bool:
    return type_ in SAID_BY


def merchant(event: Event) -> str | None:
    """The account of Stripe's for which a platform charged, where the payment names one."""
    if not event.type.startswith(("charge.", "payment_intent.")):
        return None
    named = _read(event.object, Merchant)
    told = (named.on_behalf_of, named.transfer_data and named.transfer_data.destination, named.destination)
    return next((text for text in map(_id, told) if text and events.is_id(text)), None)


def _succeeded(event: Event) -> list[Fact]:
    charge = _read(event.object, Charge)
    return _payments("approved", charge.amount, charge.currency, _of_charge(charge))


def _failed(event: Event) -> list[Fact]:
    charge = _read(event.object, Charge)
    outcome, code = _failure(charge)
    return _payments(outcome, charge.amount, charge.currency, _of_charge(charge), code=code)


def _failure(charge: Charge) -> tuple[str, str | None]:
    """How a charge failed: Stripe blocked it, the issuer declined it, or it did not get that far."""
    said = charge.outcome
    if said is None:
        declined = charge.failure_code == "card_declined"
        return ("declined" if declined else "failed"), charge.failure_code
    code = said.reason or charge.failure_code or said.network_decline_code
    if said.type == "blocked":
        return "blocked", code
    declined = said.type == "issuer_declined" or said.network_status == "declined_by_network"
    return ("declined" if declined or said.network_decline_code else "failed"), code


def _refunded(event: Event) -> list[Fact]:
    """What was refunded this time; of a charge that was never captured, its authorization is released."""
    charge = _read(event.object, Charge)
    before = _read(event.previous, Before).amount_refunded
    amount = charge.amount_refunded - before
    outcome = "refunded" if charge.captured else "reversed"
    return _payments(outcome, amount, charge.currency, _of_charge(charge)) if amount > 0 else []


def _expired(event: Event) -> list[Fact]:
    charge = _read(event.object, Charge)
    return _payments("reversed", charge.amount, charge.currency, _of_charge(charge), code="expired")


def _pending(event: Event) -> list[Fact]:
    """Of a charge by itself; that of an intent is told by `payment_intent.processing`."""
    charge = _read(event.object, Charge)
    if charge.payment_intent:
        return []
    return _payments("processing", charge.amount, charge.currency, _of_charge(charge))


def _disputed(event: Event) -> list[Fact]:
    dispute = _read(event.object, Dispute)
    how = _of_details(dispute.payment_method_details)
    return _payments("disputed", dispute.amount, dispute.currency, how, code=dispute.reason)


def _refund_made(event: Event) -> list[Fact]:
    """Of no charge; those of charges are told by `charge.refunded`."""
    refund = _read(event.object, Refund)
    return [] if refund.charge else _payments("refunded", refund.amount, refund.currency, {})


def _refund_failed(event: Event) -> list[Fact]:
    refund = _read(event.object, Refund)
    said = {"outcome": "failed", "code": refund.failure_reason}
    return _counted("refunds", refund.amount, refund.currency, said)


def _attempt_failed(event: Event) -> list[Fact]:
    """Of an attempt that came to no charge; else `charge.failed` tells it."""
    intent = _read(event.object, PaymentIntent)
    error = intent.last_payment_error or PaymentError()
    if error.charge or (intent.has_charge and error.code != _BEFORE_ANY_CHARGE):
        return []
    how = _of_method(error.payment_method) or _of_types(intent)
    outcome, code = ("declined", error.decline_code) if error.decline_code else ("failed", error.code)
    return _payments(outcome, intent.amount, intent.currency, how, code=code)


def _canceled(event: Event) -> list[Fact]:
    """Of a payment that was begun, and neither failed nor came to a charge."""
    intent = _read(event.object, PaymentIntent)
    if intent.has_charge or intent.last_payment_error or not intent.payment_method:
        return []
    code = intent.cancellation_reason
    return _payments("reversed", intent.amount, intent.currency, _of_types(intent), code=code)


def _processing(event: Event) -> list[Fact]:
    intent = _read(event.object, PaymentIntent)
    return _payments("processing", intent.amount, intent.currency, _of_types(intent))


def _payout(event: Event) -> list[Fact]:
    payout = _read(event.object, Payout)
    outcome = event.type.removeprefix("payout.")
    said = {"outcome": outcome, "method": payout.type, "code": payout.failure_code}
    return _counted("payouts", payout.amount, payout.currency, said)


def _nothing(event: Event) -> list[Fact]:
    return []


SAID_BY: Mapping[str, Callable[[Event], list[Fact]]] = {
    "charge.succeeded": _succeeded,
    "charge.failed": _failed,
    "charge.refunded": _refunded,
    "charge.expired": _expired,
    "charge.pending": _pending,
    "charge.dispute.created": _disputed,
    "refund.created": _refund_made,
    "refund.failed": _refund_failed,
    "payment_intent.payment_failed": _attempt_failed,
    "payment_intent.canceled": _canceled,
    "payment_intent.processing": _processing,
    "payout.paid": _payout,
    "payout.failed": _payout,
    "payout.canceled": _payout,
    # Known, and said by another one above.
    **dict.fromkeys(
        (
            "charge.captured",
            "charge.updated",
            "charge.refund.updated",
            "charge.dispute.updated",
            "charge.dispute.closed",
            "charge.dispute.funds_withdrawn",
            "charge.dispute.funds_reinstated",
            "refund.updated",
            "payment_intent.created",
            "payment_intent.succeeded",
            "payment_intent.requires_action",
            "payment_intent.amount_capturable_updated",
            "payment_intent.partially_funded",
            "payout.created",
            "payout.updated",
            "payout.reconciliation_completed",
        ),
        _nothing,
    ),
}


def _payments(
    outcome: str, amount: int, currency: str, how: Mapping[str, str | None], *, code: str | None = None
) -> list[Fact]:
    return _counted("payments", amount, currency, {"outcome": outcome, "code": code, **how})


def _counted(what: str, amount: int, currency: str, said: Mapping[str, str | None]) -> list[Fact]:
    """One of them, and its amount in minor units, which is how Stripe has it for every currency."""
    given = {name: value for name, value in said.items() if value}
    return [
        Fact(f"{what}.count", Kind.COUNT, 1, labels(given)),
        Fact(f"{what}.amount", Kind.AMOUNT, amount, labels({**given, "currency": currency.upper()})),
    ]


Said = dict[str, str | None]


def _of_charge(charge: Charge) -> Said:
    return _of_details(charge.payment_method_details, charge.billing_details)


def _of_details(details: Mapping[str, Any] | None, billing: Billing | None = None) -> Said:
    type_ = _text((details or {}).get("type"))
    found = (details or {}).get(type_) if type_ else None
    return _how(type_, found if isinstance(found, dict) else {}, billing)


def _of_method(method: PaymentMethod | None) -> Said:
    return _how(method.type, method.card or {}, method.billing_details) if method and method.type else {}


def _of_types(intent: PaymentIntent) -> Said:
    """How it was to be paid, where only one way was open."""
    types = intent.payment_method_types
    return {"method": types[0]} if len(types) == 1 else {}


def _how(type_: str | None, found: Mapping[str, Any], billing: Billing | None) -> Said:
    """The country is that of the card, else of the payer's address."""
    address = billing.address if billing else None
    country = _text(found.get("country")) or (address and address.country) or ""
    network = _text(found.get("network")) or _text(found.get("brand"))
    return {
        "method": type_,
        "network": network.lower() if network else None,
        "country": country if _COUNTRY.fullmatch(country) else None,
    }


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _id(value: object) -> str | None:
    """The id of a reference, which may be the object itself."""
    return _text(value.get("id")) if isinstance(value, dict) else _text(value)


def _read(content: bytes, type_: type[T]) -> T:
    try:
        return msgspec.json.decode(content, type=type_)
    except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"Its object cannot be read: {error}.") from None

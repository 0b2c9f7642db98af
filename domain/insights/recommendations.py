"""What can be done: the catalogue of actions, and which of them answer which cause, best first.

Documentation is public; nobody promises what an action gains, so no gain is claimed.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Link = tuple[str, str]

_DECLINES: Link = ("Stripe: card declines", "https://docs.stripe.com/declines/card")
_CODES: Link = ("Stripe: decline codes", "https://docs.stripe.com/declines/codes")
_REFUSALS: Link = ("Adyen: refusal reasons", "https://docs.adyen.com/development-resources/refusal-reasons")
_SMART: Link = (
    "Stripe: smart retries",
    "https://docs.stripe.com/payments/off-session-payments/smart-retries",
)
_RESCUE: Link = ("Adyen: Auto Rescue", "https://docs.adyen.com/online-payments/auto-rescue/cards")
_ROUTE: Link = (
    "Stripe: retries through another processor",
    "https://docs.stripe.com/payments/orchestration/retries",
)
_METHODS: Link = (
    "Stripe: dynamic payment methods",
    "https://docs.stripe.com/payments/payment-methods/dynamic-payment-methods",
)
_TOKENS: Link = (
    "Adyen: network tokens",
    "https://docs.adyen.com/online-payments/network-tokenization",
)
_3DS: Link = ("Stripe: 3D Secure", "https://docs.stripe.com/payments/3d-secure")
_UPDATES: Link = ("Stripe: automatic card updates", "https://docs.stripe.com/payments/cards/overview")
_ERRORS: Link = ("Stripe: advanced error handling", "https://docs.stripe.com/error-low-level")
_CAPTURE: Link = (
    "Stripe: authorize now, capture later",
    "https://docs.stripe.com/payments/place-a-hold-on-a-payment-method",
)
_TESTING: Link = ("Stripe: card testing", "https://docs.stripe.com/disputes/prevention/card-testing")
_TRY: Link = ("Stripe: testing", "https://docs.stripe.com/testing")


@dataclass(frozen=True)
class Action:
    """Something to do; `effort` is LOW (minutes), MEDIUM (days) or HIGH (weeks or another team)."""

    key: str
    title: str
    steps: tuple[str, ...]
    links: tuple[Link, ...]
    effort: str

    def document(self) -> dict[str, Any]:
        return {
            "key": self.key,
            "title": self.title,
            "steps": list(self.steps),
            "documentation_links": [{"label": label, "url": url} for label, url in self.links],
            "effort": self.effort,
            "gain_low": None,
            "gain_mid": None,
            "gain_high": None,
        }


ROUTE = Action(
    "route_to_another_partner",
    "Send these payments through another partner",
    (
        "Find the routing rule that sends them to the partner that fails.",
        "Let another partner that takes the same cards and methods go first.",
        "Watch the rate of the other partner for ten minutes, and go back once the first has recovered.",
    ),
    (_ROUTE,),
    "MEDIUM",
)
METHODS = Action(
    "show_other_methods",
    "Show other payment methods first",
    (
        "Put a payment method that works to the top of the checkout.",
        "Offer it again, with the cart kept, where a payment has just failed.",
    ),
    (_METHODS,),
    "LOW",
)
RETRY = Action(
    "retry_later",
    "Try again later, and not at once",
    (
        "Keep the payments that failed and whose customer agreed to a later charge.",
        "Try again after hours, around the days on which salaries are paid; stop after a few attempts.",
        "Ask customers who are present for another payment method instead.",
    ),
    (_SMART, _RESCUE),
    "LOW",
)
TOKENS = Action(
    "use_network_tokens",
    "Use network tokens for stored cards",
    (
        "Ask your partner to turn on network tokens for cards that are stored.",
        "Send the token and its cryptogram instead of the card's number.",
        "Compare the rate of both for a week.",
    ),
    (_TOKENS, _DECLINES),
    "HIGH",
)
AUTHENTICATE = Action(
    "ask_for_3d_secure",
    "Ask for 3D Secure where the issuer refuses",
    (
        "Repeat a payment that was refused without a reason with 3D Secure.",
        "Ask for it from the first attempt for the issuers that refuse most.",
    ),
    (_3DS, _DECLINES),
    "MEDIUM",
)
UPDATE_CARDS = Action(
    "update_stored_cards",
    "Keep stored cards up to date",
    (
        "Turn on the automatic update of stored cards at your partner.",
        "Write to customers a month before their card expires.",
    ),
    (_UPDATES, _TOKENS),
    "MEDIUM",
)
CHECK_FORM = Action(
    "check_payment_form",
    "Check what the payment form sends",
    (
        "Pay with a test card, and compare number, date, code and postal code with what the partner got.",
        "Say at the field what is wrong as soon as it is typed.",
    ),
    (_CODES, _TRY),
    "LOW",
)
STOP_TESTING = Action(
    "stop_card_testing",
    "Look whether stolen cards are being tested",
    (
        "Look for many small attempts from few addresses, devices or card ranges.",
        "Limit attempts a customer and ask for a captcha.",
        "Do not retry these payments.",
    ),
    (_TESTING, _CODES),
    "MEDIUM",
)
CHECK_INTEGRATION = Action(
    "check_integration",
    "Look for errors between you and your partner",
    (
        "Look at your last release and at changed settings or keys since the rate fell.",
        "Look for time-outs and errors in your calls to the partner.",
        "Repeat calls that timed out with their idempotency key.",
    ),
    (_ERRORS,),
    "LOW",
)
CHECK_REVERSALS = Action(
    "check_reversals",
    "Find out why payments are reversed after approval",
    (
        "Look for time-outs between approval and capture.",
        "Look whether a system behind the checkout takes payments back.",
    ),
    (_CAPTURE, _ERRORS),
    "MEDIUM",
)
READ_CODES = Action(
    "read_decline_codes",
    "See for which reason payments are declined",
    (
        "Compare the decline codes of now with those of last week.",
        "Send the label `code` with payments.count, if you do not, to see them here.",
    ),
    (_CODES, _REFUSALS),
    "LOW",
)
CHECK_CHECKOUT = Action(
    "check_checkout",
    "See whether customers still reach the payment",
    (
        "Pay yourself, on a phone and on a computer, as a customer of the country or method that fell.",
        "Look at your last release, at changed prices, campaigns and settings since then.",
        "See whether the number of visitors fell as well: if so, it is not the payment.",
    ),
    (_TRY, _ERRORS),
    "LOW",
)
CHECK_SENDER = Action(
    "check_telemetry",
    "See whether your numbers still arrive",
    ("Compare with your partner's own dashboard: payments that are not reported here are not missing.",),
    (),
    "LOW",
)

_BY_OUTCOME = {
    "failed": (CHECK_INTEGRATION, ROUTE),
    "reversed": (CHECK_REVERSALS,),
}
_ANSWERS: Sequence[tuple[tuple[str, ...], tuple[Action, ...]]] = (
    (("insufficient_funds", "withdrawal_count_limit_exceeded", "card_velocity_exceeded"), (RETRY, METHODS)),
    (("do_not_honor", "generic_decline", "not_permitted", "transaction_not_allowed"), (AUTHENTICATE, TOKENS)),
    (("authentication_required",), (AUTHENTICATE,)),
    (("expired_card", "pickup_card", "revocation_of_authorization"), (UPDATE_CARDS, METHODS)),
    (("incorrect_cvc", "incorrect_number", "incorrect_zip", "invalid_number"), (CHECK_FORM, STOP_TESTING)),
    (("fraudulent", "lost_card", "stolen_card", "suspected_fraud"), (STOP_TESTING,)),
    (("issuer_not_available", "processing_error", "try_again_later"), (ROUTE, METHODS)),
)
_BY_CODE = {code: actions for codes, actions in _ANSWERS for code in codes}


def for_ending(outcome: str, code: str | None) -> tuple[Action, ...]:
    """What answers payments that end so; codes and outcomes are open sets, an unknown one is read up on."""
    if outcome != "declined":
        return _BY_OUTCOME.get(outcome, ())
    return _BY_CODE.get(code or "", (READ_CODES,))


def for_slice(labels: Mapping[str, str]) -> tuple[Action, ...]:
    """What answers trouble of one part of the traffic."""
    if "partner" in labels:
        return ROUTE, METHODS
    if "issuer" in labels or "method" in labels:
        return METHODS, RETRY
    return ()


def documents(actions: Iterable[Action], *, at_least: Sequence[Action]) -> list[dict[str, Any]]:
    """Each of `actions` once, in their order; `at_least` where there are none."""
    chosen = {action.key: action for action in actions} or {action.key: action for action in at_least}
    return [action.document() for action in chosen.values()]

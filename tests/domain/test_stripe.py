"""Stripe's signatures, and what its events say: each outcome by one event alone."""

import json
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain.stripe import events, facts, judging, signature
from domain.stripe.facts import Unreadable
from domain.stripe.judging import judge
from domain.stripe.models import NoEvent, SecretUnreadable, SignatureRefused, State
from domain.stripe.sealing import Seal
from domain.telemetry.points import Kind
from tests import stripe_bodies as bodies
from tests.make import NOON
from tests.stripe_bodies import SECRET, charge, declined, event, intent, signed, thin

BODY = b'{"id": "evt_1"}'
KEYS = ["MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXphYmNkZWY="]
CARD = "country=BR method=card network=visa"


def parsed(event_: dict[str, Any]) -> events.Event:
    return events.parse(bodies.body(event_))


def said(event_: dict[str, Any]) -> dict[str, int]:
    """What the event adds, by metric and labels."""
    return {
        " ".join((one.metric, *(f"{key}={value}" for key, value in one.labels))): one.value
        for one in facts.of(parsed(event_))
    }


def test_a_body_is_proven_by_any_of_its_signatures_with_any_of_the_secrets() -> None:
    other = "whsec_another_one_of_them"
    header = signed(BODY, at=NOON)
    signature.verify(header, BODY, [SECRET], at=NOON)
    signature.verify(header, BODY, [other, SECRET], at=NOON + timedelta(minutes=5))
    both = f"{signed(BODY, at=NOON, secret=other)},{header.split(',')[1]}"
    signature.verify(both, BODY, [SECRET], at=NOON)


def test_the_example_of_stripes_scheme_is_verified() -> None:
    # The HMAC-SHA256 of "1492774577.{}" under "whsec_test_secret_of_16", by `openssl dgst -sha256 -hmac`.
    at = datetime.fromtimestamp(1492774577, UTC)
    header = "t=1492774577,v1=ce91e0db859bade78d76525b9299aeba9b06d135460364324a24f9964eb381f0"
    signature.verify(header, b"{}", ["whsec_test_secret_of_16"], at=at)


@pytest.mark.parametrize(
    ("header", "told"),
    [
        (None, "missing"),
        ("", "missing"),
        ("v1=" + "0" * 64, "no time"),
        ("t=1", "no signature"),
        ("t=1,t=2,v1=" + "0" * 64, "no time"),
        ("t=x,v1=" + "0" * 64, "no time"),
        ("t=1,v0=" + "0" * 64, "no signature"),
        ("t=1,v1=" + "0" * 64, "No signature"),
        ("t=1,v1=é", "no signature"),
        ("t=1," + "v1=00," * 1000, "too long"),
    ],
)
def test_a_header_that_proves_nothing_is_refused_with_the_reason(header: str | None, told: str) -> None:
    with pytest.raises(SignatureRefused, match=told):
        signature.verify(header, BODY, [SECRET], at=NOON)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_a_body_that_was_signed_at_another_time_is_refused(minutes: int) -> None:
    header = signed(BODY, at=NOON + timedelta(minutes=minutes))
    with pytest.raises(SignatureRefused, match="more than 5 minutes"):
        signature.verify(header, BODY, [SECRET], at=NOON)


def test_another_body_or_secret_is_refused_and_the_reason_holds_no_secret() -> None:
    header = signed(BODY, at=NOON)
    for content, secret in ((BODY + b" ", SECRET), (BODY, "whsec_another_one_of_them")):
        with pytest.raises(SignatureRefused) as refusal:
            signature.verify(header, content, [secret], at=NOON)
        assert secret not in str(refusal.value)


@given(st.text(max_size=80), st.binary(max_size=50))
def test_no_header_proves_a_body_that_was_not_signed(header: str, content: bytes) -> None:
    with pytest.raises(SignatureRefused):
        signature.verify(header, content, [SECRET], at=NOON)


def test_a_sealed_secret_is_opened_by_any_key_and_sealed_again_by_the_first() -> None:
    sealed = Seal(KEYS[0]).seal(SECRET)
    assert SECRET.encode() not in sealed
    both = Seal(f" {KEYS[1]} , {KEYS[0]}")
    assert both.open(sealed) == SECRET
    assert Seal(KEYS[1]).open(both.again(sealed)) == SECRET


@pytest.mark.parametrize("keys", ["", "short", KEYS[1]])
def test_a_secret_stays_shut_without_its_key_and_the_refusal_names_the_setting(keys: str) -> None:
    sealed = Seal(KEYS[0]).seal(SECRET)
    with pytest.raises(SecretUnreadable, match="VITALS_SECRET_KEYS"):
        Seal(keys).open(sealed)


def test_a_charge_that_succeeds_is_approved_with_its_amount_card_and_network() -> None:
    assert said(event("charge.succeeded", charge())) == {
        f"payments.count {CARD} outcome=approved": 1,
        "payments.amount country=BR currency=BRL method=card network=visa outcome=approved": 1000,
    }


def test_amounts_of_currencies_without_minor_units_are_not_scaled() -> None:
    found = said(event("charge.succeeded", charge(amount=500, currency="jpy")))
    assert found["payments.amount country=BR currency=JPY method=card network=visa outcome=approved"] == 500


@pytest.mark.parametrize(
    ("failed", "outcome", "code"),
    [
        (declined("insufficient_funds"), "declined", "insufficient_funds"),
        (charge(outcome={"type": "issuer_declined", "reason": None}, failure_code="card_declined"),
         "declined", "card_declined"),
        (charge(outcome={"type": "invalid", "network_decline_code": "05"}), "declined", "05"),
        (charge(outcome={"type": "blocked", "reason": "highest_risk_level"}, failure_code="card_declined"),
         "blocked", "highest_risk_level"),
        (charge(outcome={"type": "invalid"}, failure_code="processing_error"), "failed", "processing_error"),
        (charge(outcome=None, failure_code="card_declined"), "declined", "card_declined"),
        (charge(outcome=None, failure_code="account_closed"), "failed", "account_closed"),
    ],
)  # fmt: skip
def test_a_failed_charge_was_declined_or_blocked_or_failed(
    failed: dict[str, Any], outcome: str, code: str
) -> None:
    found = said(event("charge.failed", failed))
    assert found[f"payments.count code={code} {CARD} outcome={outcome}"] == 1
    assert len(found) == 2


def test_a_refund_counts_with_what_it_added_to_the_refunded_amount() -> None:
    partly = charge(amount_refunded=700)
    found = said(event("charge.refunded", partly, previous={"amount_refunded": 200}))
    assert found[f"payments.count {CARD} outcome=refunded"] == 1
    assert found["payments.amount country=BR currency=BRL method=card network=visa outcome=refunded"] == 500
    assert said(event("charge.refunded", partly, previous={"amount_refunded": 700})) == {}


def test_a_charge_that_was_never_captured_is_reversed_when_it_is_released_or_expires() -> None:
    released = charge(captured=False, amount_refunded=1000)
    found = said(event("charge.refunded", released, previous={"amount_refunded": 0}))
    assert found[f"payments.count {CARD} outcome=reversed"] == 1
    expired = said(event("charge.expired", charge(captured=False)))
    assert expired[f"payments.count code=expired {CARD} outcome=reversed"] == 1


def test_a_dispute_counts_with_its_amount_and_reason() -> None:
    dispute = {
        "amount": 300,
        "currency": "usd",
        "reason": "fraudulent",
        "payment_method_details": VISA_DISPUTE,
    }
    assert said(event("charge.dispute.created", dispute)) == {
        "payments.count code=fraudulent method=card network=visa outcome=disputed": 1,
        "payments.amount code=fraudulent currency=USD method=card network=visa outcome=disputed": 300,
    }


VISA_DISPUTE = {"type": "card", "card": {"brand": "visa", "network_reason_code": "10.4"}}


@pytest.mark.parametrize("outcome", ["paid", "failed", "canceled"])
def test_payouts_count_by_outcome(outcome: str) -> None:
    payout = {"amount": 1100, "currency": "usd", "type": "bank_account", "failure_code": None}
    made = parsed(event(f"payout.{outcome}", payout))
    assert [(one.metric, one.kind, one.value) for one in facts.of(made)] == [
        ("payouts.count", Kind.COUNT, 1),
        ("payouts.amount", Kind.AMOUNT, 1100),
    ]
    assert ("outcome", outcome) in facts.of(made)[0].labels


def test_an_intent_that_failed_with_a_charge_adds_nothing_to_what_the_charge_says() -> None:
    error = {"charge": "ch_1", "code": "card_declined", "decline_code": "generic_decline"}
    failed = intent(latest_charge="ch_1", last_payment_error=error)
    assert said(event("payment_intent.payment_failed", failed)) == {}
    # A debit's error names no charge, but there is one.
    unnamed = intent(
        latest_charge="py_1", last_payment_error={"code": "payment_intent_payment_attempt_failed"}
    )
    assert said(event("payment_intent.payment_failed", unnamed)) == {}
    listed = intent(charges={"data": [{"id": "ch_1"}]}, last_payment_error={"code": "card_declined"})
    assert said(event("payment_intent.payment_failed", listed)) == {}


def test_an_attempt_that_failed_before_any_charge_is_told_by_its_intent() -> None:
    method = {"type": "card", "card": {"brand": "visa", "country": "BR"}}
    error = {"code": "payment_intent_authentication_failure", "payment_method": method}
    first = intent(last_payment_error=error)
    # A second attempt: the latest charge is that of the first.
    second = intent(latest_charge="ch_1", last_payment_error=error)
    for failed in (first, second):
        found = said(event("payment_intent.payment_failed", failed))
        assert found[f"payments.count code=payment_intent_authentication_failure {CARD} outcome=failed"] == 1
    refused = intent(last_payment_error={"code": "card_declined", "decline_code": "do_not_honor"})
    found = said(event("payment_intent.payment_failed", refused))
    assert found["payments.count code=do_not_honor method=card outcome=declined"] == 1


def test_a_canceled_intent_counts_as_reversed_only_where_paying_had_begun_and_nothing_else_tells() -> None:
    begun = intent(payment_method="pm_1", cancellation_reason="abandoned")
    found = said(event("payment_intent.canceled", begun))
    assert found["payments.count code=abandoned method=card outcome=reversed"] == 1
    for others in (
        {},
        {"payment_method": "pm_1", "latest_charge": "ch_1"},
        {"payment_method": "pm_1", "last_payment_error": {"code": "card_declined"}},
    ):
        assert said(event("payment_intent.canceled", intent(**others))) == {}


def test_processing_is_told_by_the_intent_or_else_by_a_charge_that_has_none() -> None:
    debit = {"payment_method_types": ["sepa_debit"]}
    assert said(event("payment_intent.processing", intent(**debit)))[
        "payments.count method=sepa_debit outcome=processing"
    ]
    assert said(event("charge.pending", charge())) == {}
    assert len(said(event("charge.pending", charge(payment_intent=None)))) == 2


def test_a_refund_is_told_by_its_charge_unless_it_has_none_and_one_that_failed_counts_apart() -> None:
    refund = {"amount": 100, "currency": "usd", "charge": "ch_1", "failure_reason": "declined"}
    assert said(event("refund.created", refund)) == {}
    found = said(event("refund.created", refund | {"charge": None}))
    assert found["payments.count outcome=refunded"] == 1
    assert said(event("refund.failed", refund))["refunds.count code=declined outcome=failed"] == 1


@given(st.lists(st.sampled_from(["succeeded", "failed", "refunded", "again"]), max_size=6))
def test_an_attempt_counts_once_whichever_events_tell_of_it(lives: list[str]) -> None:
    """All the events that Stripe sends in the life of payments add up to an outcome for each attempt."""
    history, expected = [], {"approved": 0, "declined": 0, "failed": 0, "refunded": 0}
    for life in lives:
        made, said_of = LIVES[life]()
        history += made
        for outcome in said_of:
            expected[outcome] += 1
    found = dict.fromkeys(expected, 0)
    for one in history:
        for fact in facts.of(parsed(one)):
            if fact.metric == "payments.count":
                found[dict(fact.labels)["outcome"]] += fact.value
    assert found == expected


def _succeeded() -> tuple[list[dict[str, Any]], list[str]]:
    paid = charge()
    made = [
        event("payment_intent.created", intent()),
        event("charge.succeeded", paid),
        event("charge.updated", paid),
        event("payment_intent.succeeded", intent(latest_charge=paid["id"])),
    ]
    return made, ["approved"]


def _failed() -> tuple[list[dict[str, Any]], list[str]]:
    """Declined, and the payer gives up."""
    refused = declined()
    error = {"charge": refused["id"], "code": "card_declined", "decline_code": "insufficient_funds"}
    failed = intent(latest_charge=refused["id"], last_payment_error=error)
    made = [
        event("payment_intent.created", intent()),
        event("charge.failed", refused),
        event("payment_intent.payment_failed", failed),
        event("payment_intent.canceled", failed | {"payment_method": "pm_1"}),
    ]
    return made, ["declined"]


def _refunded() -> tuple[list[dict[str, Any]], list[str]]:
    made, outcomes = _succeeded()
    refund = {"id": "re_1", "amount": 1000, "currency": "brl", "charge": "ch_1"}
    made += [
        event("refund.created", refund),
        event("charge.refunded", charge(amount_refunded=1000), previous={"amount_refunded": 0}),
        event("refund.updated", refund),
        event("charge.refund.updated", refund),
    ]
    return made, [*outcomes, "refunded"]


def _again() -> tuple[list[dict[str, Any]], list[str]]:
    """Not authenticated, then declined, then paid."""
    unproven = {"code": "payment_intent_authentication_failure"}
    first = event("payment_intent.payment_failed", intent(last_payment_error=unproven))
    failed, _ = _failed()
    paid, _ = _succeeded()
    return [first, *failed[1:3], *paid[1:]], ["failed", "declined", "approved"]


LIVES = {"succeeded": _succeeded, "failed": _failed, "refunded": _refunded, "again": _again}


@pytest.mark.parametrize(
    ("charged", "merchant"),
    [
        (charge(on_behalf_of="acct_1", transfer_data={"destination": "acct_2"}), "acct_1"),
        (charge(transfer_data={"destination": "acct_2"}), "acct_2"),
        (charge(transfer_data={"destination": {"id": "acct_3", "object": "account"}}), "acct_3"),
        (charge(destination="acct_4"), "acct_4"),
        (charge(), None),
    ],
)
def test_the_merchant_for_whom_a_platform_charges_is_found(
    charged: dict[str, Any], merchant: str | None
) -> None:
    assert facts.merchant(parsed(event("charge.succeeded", charged))) == merchant


def test_a_payouts_destination_is_no_merchant() -> None:
    payout = {"amount": 1, "currency": "usd", "destination": "ba_1"}
    assert facts.merchant(parsed(event("payout.paid", payout))) is None


@pytest.mark.parametrize(
    ("made", "state"),
    [
        (event("charge.succeeded", charge()), State.TAKEN),
        (event("charge.captured", charge()), State.TAKEN),
        (event("charge.succeeded", charge(), livemode=False), State.IGNORED),
        (event("customer.created", {}), State.IGNORED),
        (event("charge.succeeded", {"amount": "10.00", "currency": "usd"}), State.FAILED),
        (event("charge.succeeded", charge(amount=-1)), State.FAILED),
        (event("charge.succeeded", charge(amount=10**30)), State.FAILED),
        (event("charge.succeeded", charge(currency="dollars")), State.FAILED),
        (event("charge.succeeded", charge(), created=bodies.NOON_S - 31 * 86_400), State.FAILED),
        (event("charge.succeeded", charge(), created=bodies.NOON_S + 301), State.FAILED),
        (thin(), State.UNRESOLVED),
        (thin("v2.core.account.closed"), State.UNRESOLVED),
        (thin("v1.billing.meter.error_report_triggered"), State.IGNORED),
    ],
)
def test_an_event_is_judged_by_itself(made: dict[str, Any], state: State) -> None:
    assert judge(parsed(made), takes_tests=False, at=NOON).state is state


def test_events_of_test_mode_are_taken_where_the_endpoint_says_so() -> None:
    made = parsed(event("charge.succeeded", charge(), livemode=False))
    assert judge(made, takes_tests=True, at=NOON).state is State.TAKEN


def test_types_are_counted_as_a_closed_set() -> None:
    kinds = [judging.kind(parsed(one)) for one in (event("a.b", {}), thin(), event("payout.paid", {}))]
    assert kinds == ["unknown", "v2.core", "payout.paid"]


def test_a_notification_names_its_account_by_its_context() -> None:
    assert parsed(thin(context="org_1/acct_2")).account == "acct_2"
    assert parsed(thin()).created_at == datetime(2026, 11, 23, 12, 0, 0, 250_000, UTC)


@pytest.mark.parametrize(
    "content",
    [
        b"", b"null", b"1", b'"x"', b"[]", b"{}", b"{", b"\xff", b"[" * 100_000, b'{"id": "\\ud800"}',
        bodies.body(event("charge.succeeded", {}, id="../../v1/charges")),
        bodies.body(event("charge.succeeded", {}, id="")),
        bodies.body(event("charge.succeeded", {}, type="x\x00y")),
        bodies.body(event("charge.succeeded", {}, created=10**400)),
        bodies.body(event("charge.succeeded", {}, created=-1)),
        bodies.body(event("charge.succeeded", {}, created="yesterday")),
        bodies.body(event("charge.succeeded", {}, object="list")),
        bodies.body(event("charge.succeeded", {}, data=[])),
        bodies.body(event("charge.succeeded", {}, account="a b")),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_event_is_refused(content: bytes) -> None:
    with pytest.raises(NoEvent):
        events.parse(content)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIELDS = st.sampled_from(sorted(charge().keys() | intent().keys() | {"reason", "type", "data"}))


@given(st.sampled_from(sorted(facts.SAID_BY)), st.dictionaries(FIELDS, ANYTHING), st.booleans(), ANYTHING)
def test_whatever_an_event_holds_it_is_judged(
    type_: str, changes: dict[str, Any], is_intent: bool, previous: Any
) -> None:
    object_ = (intent() if is_intent else charge()) | changes
    made = event(type_, object_)
    made["data"]["previous_attributes"] = previous
    verdict = judge(parsed(made), takes_tests=False, at=NOON)
    assert verdict.state in (State.TAKEN, State.FAILED)
    assert (verdict.remark is None) == (verdict.state is State.TAKEN)


def _data() -> Path:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    return Path(folder) / "stripe"


def test_a_recorded_failure_is_counted_by_its_charge_alone() -> None:
    file = _data() / "recorded_events" / "payment_intent.payment_failed.event_list.json"
    (recorded,) = json.loads(file.read_text())["data"]
    assert said(recorded) == {}
    (failed,) = recorded["data"]["object"]["charges"]["data"]
    found = said(recorded | {"type": "charge.failed", "data": {"object": failed}})
    assert found == {
        "payments.count code=generic_decline country=US method=card network=visa outcome=declined": 1,
        "payments.amount code=generic_decline country=US currency=USD method=card network=visa"
        " outcome=declined": 48000,
    }


def test_stripes_own_samples_are_read() -> None:
    samples = json.loads((_data() / "openapi_fixtures3.json").read_text())["resources"]
    for type_, sample in {
        "charge.succeeded": "charge",
        "charge.failed": "charge",
        "charge.dispute.created": "dispute",
        "refund.failed": "refund",
        "payment_intent.processing": "payment_intent",
        "payout.paid": "payout",
    }.items():
        assert len(said(event(type_, samples[sample]))) == 2


def test_every_type_of_event_is_judged_and_what_is_known_is_among_them() -> None:
    types = (_data() / "v1_event_types.txt").read_text().split()
    states = {type_: judge(parsed(event(type_, {})), takes_tests=False, at=NOON).state for type_ in types}
    assert {
        type_ for type_, state in states.items() if state is not State.IGNORED
    } == facts.SAID_BY.keys() - {
        "refund.failed"  # it is newer than the list
    }


def test_every_alert_of_stripes_health_is_to_be_resolved() -> None:
    schema = json.loads((_data() / "v2_core_health_event_schema.json").read_text())
    for type_ in schema["event_types"]:
        made = parsed(thin(type_))
        assert made.type.startswith(judging.HEALTH)
        assert judge(made, takes_tests=False, at=NOON).state is State.UNRESOLVED


def test_an_unreadable_object_is_named_by_its_field() -> None:
    with pytest.raises(Unreadable, match=r"\$\.amount"):
        facts.of(parsed(event("charge.succeeded", charge(amount="10.00"))))


def test_a_merchant_is_named_by_an_id_or_not_at_all() -> None:
    named = event("charge.succeeded", charge(on_behalf_of="a\0", destination="acct_9"))
    assert facts.merchant(events.parse(bodies.body(named))) == "acct_9"

"""The parts of Stripe's objects that are read, in every version of its API since 2019."""

from typing import Annotated, Any

from msgspec import Meta, Struct

Amount = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Signed = Annotated[int, Meta(ge=-(2**53 - 1), le=2**53 - 1)]
Currency = Annotated[str, Meta(pattern="^[A-Za-z]{3}$")]


class Outcome(Struct):
    type: str | None = None
    reason: str | None = None
    network_status: str | None = None
    network_decline_code: str | None = None


class Address(Struct):
    country: str | None = None


class Billing(Struct):
    address: Address | None = None


class Transfer(Struct):
    destination: Any = None


class Charge(Struct):
    """`payment_method_details` holds its `type`, and under that name the details."""

    amount: Amount
    currency: Currency
    amount_refunded: Amount = 0
    captured: bool = True
    failure_code: str | None = None
    outcome: Outcome | None = None
    payment_intent: Any = None
    payment_method_details: dict[str, Any] | None = None
    billing_details: Billing | None = None


class Before(Struct):
    """What a charge was before; attributes that did not change are left out."""

    amount_refunded: Amount = 0


class PaymentMethod(Struct):
    type: str | None = None
    card: dict[str, Any] | None = None
    billing_details: Billing | None = None


class PaymentError(Struct):
    """`charge` is named for errors of cards."""

    charge: Any = None
    code: str | None = None
    decline_code: str | None = None
    payment_method: PaymentMethod | None = None


class Charges(Struct):
    data: list[Any] = []


class PaymentIntent(Struct):
    """Before 2022-11-15 its `charges` are listed; since then the `latest_charge` is named."""

    amount: Amount
    currency: Currency
    latest_charge: Any = None
    charges: Charges | None = None
    payment_method: Any = None
    payment_method_types: list[str] = []
    last_payment_error: PaymentError | None = None
    cancellation_reason: str | None = None

    @property
    def has_charge(self) -> bool:
        return bool(self.latest_charge or (self.charges and self.charges.data))


class Dispute(Struct):
    amount: Amount
    currency: Currency
    reason: str | None = None
    payment_method_details: dict[str, Any] | None = None


class Refund(Struct):
    amount: Amount
    currency: Currency
    charge: Any = None
    failure_reason: str | None = None


class Payout(Struct):
    amount: Signed
    currency: Currency
    type: str | None = None
    failure_code: str | None = None


class Merchant(Struct):
    """Whose payment it is where a platform charges for its merchants."""

    on_behalf_of: Any = None
    transfer_data: Transfer | None = None
    destination: Any = None

"""Numbers, money, times and places in plain words, as the account writes them."""

from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from domain.catalog.models import Account, Partner
from domain.core.currencies import money
from domain.telemetry.tickets import Worth

SEND_AMOUNTS = "Send payments.amount to see what that is worth."


def percent(part: float) -> str:
    return f"{part:.1%}"


def number(value: float) -> str:
    return f"{value:,.0f}"


def moment(at: datetime, account: Account) -> str:
    """Such as `23 Nov 14:32`, on the account's clock."""
    local = at.astimezone(ZoneInfo(account.time_zone))
    return f"{local.day} {local:%b %H:%M}"


def span(from_: datetime, until: datetime, account: Account) -> str:
    begins, ends = moment(from_, account), moment(until, account)
    day = begins[:-5]
    return f"{begins} to {ends.removeprefix(day)}"


def clock(account: Account) -> str:
    return f"Times are those of {account.time_zone}."


def place(labels: Mapping[str, str], partner: Partner | None) -> str:
    """Where: `partner Acquirer A`; of the whole account nothing."""
    return " and ".join(f"{key} {partner.name if partner else value}" for key, value in labels.items())


def worth(missing: Worth | None, account: Account) -> str:
    """What it is worth, as the end of a sentence, or what to send to learn it."""
    if missing is None:
        return f". {SEND_AMOUNTS}"
    low, mid, high = (money(amount, account.currency) for amount in (missing.low, missing.mid, missing.high))
    return f", worth {mid} ({low} to {high})."

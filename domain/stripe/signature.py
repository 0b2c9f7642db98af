"""Stripe's proof that it sent a body: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`.

A v1 is the HMAC-SHA256 of "t.body" under a secret of the endpoint; there is one for each secret while
they are rotated. https://docs.stripe.com/webhooks#verify-manually
"""

import hmac
import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from domain.stripe.models import SignatureRefused

HEADER = "stripe-signature"
TOLERANCE = timedelta(minutes=5)
_MOST_LENGTH = 4096
_TIME = re.compile(r"[0-9]{1,12}")
_V1 = re.compile(r"[0-9a-f]{64}")


def verify(header: str | None, body: bytes, secrets: Iterable[str], *, at: datetime) -> None:
    """Raises SignatureRefused unless the body was signed with one of `secrets`, within TOLERANCE of `at`.

    The time is told to be wrong only to who can sign.
    """
    signed_at, given = parse(header)
    message = str(signed_at).encode() + b"." + body
    expected = [hmac.digest(secret.encode(), message, "sha256").hex() for secret in secrets]
    # All are compared, so that the time taken tells nothing.
    matches = [hmac.compare_digest(one, other) for one in expected for other in given]
    if not any(matches):
        raise SignatureRefused("No signature in Stripe-Signature is that of this body.")
    if abs(at.timestamp() - signed_at) > TOLERANCE.total_seconds():
        minutes = TOLERANCE.total_seconds() / 60
        raise SignatureRefused(f"The body was signed more than {minutes:.0f} minutes before or after now.")


def parse(header: str | None) -> tuple[int, Sequence[str]]:
    """The epoch second of signing, and the signatures. Raises SignatureRefused for another form."""
    if not header:
        raise SignatureRefused("The header Stripe-Signature is missing.")
    if len(header) > _MOST_LENGTH:
        raise SignatureRefused("The header Stripe-Signature is too long.")
    pairs = [part.strip().partition("=") for part in header.split(",")]
    times = [value for name, _, value in pairs if name == "t" and _TIME.fullmatch(value)]
    given = [value for name, _, value in pairs if name == "v1" and _V1.fullmatch(value)]
    if len(times) != 1:
        raise SignatureRefused("The header Stripe-Signature has no time: t=… is missing.")
    if not given:
        raise SignatureRefused("The header Stripe-Signature has no signature: v1=… is missing.")
    return int(times[0]), given

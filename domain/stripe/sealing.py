"""Secrets at rest: sealed with the first of the operator's keys, opened with any of them (Fernet)."""

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from domain.stripe.models import SecretUnreadable

_HOW = "it takes 32 random bytes in URL-safe base64, several with commas between"


class Seal:
    """The keys of VITALS_SECRET_KEYS, of which the first seals; they are looked at when they are needed."""

    def __init__(self, keys: str) -> None:
        self._texts = [text.strip() for text in keys.split(",") if text.strip()]

    def seal(self, secret: str) -> bytes:
        return self._fernet().encrypt(secret.encode())

    def open(self, sealed: bytes) -> str:
        try:
            return self._fernet().decrypt(sealed).decode()
        except InvalidToken:
            raise SecretUnreadable("No key of VITALS_SECRET_KEYS opens this secret.") from None

    def again(self, sealed: bytes) -> bytes:
        """The same secret, sealed with the first key."""
        return self.seal(self.open(sealed))

    def _fernet(self) -> MultiFernet:
        if not self._texts:
            raise SecretUnreadable(f"VITALS_SECRET_KEYS is not set: {_HOW}.")
        return MultiFernet([_key(number, text) for number, text in enumerate(self._texts, 1)])


def _key(number: int, text: str) -> Fernet:
    try:
        return Fernet(text)
    except ValueError:
        raise SecretUnreadable(f"Key {number} of VITALS_SECRET_KEYS is none: {_HOW}.") from None

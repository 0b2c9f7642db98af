"""The text of an API key, `vk_<prefix>_<secret>`: the prefix finds it, only a hash of the secret is kept."""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field

from domain.access.models import Unauthenticated

_ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
_FORM = re.compile(r"vk_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")


@dataclass(frozen=True)
class Credential:
    """A prefix of 60 random bits and a secret of 256: a plain hash is enough, since nobody can guess it."""

    prefix: str
    secret: str = field(repr=False)

    @classmethod
    def make(cls) -> "Credential":
        prefix = "".join(secrets.choice(_ALPHABET) for _ in range(12))
        return cls(prefix, secrets.token_urlsafe(32))

    @classmethod
    def parse(cls, text: str) -> "Credential":
        """Raises Unauthenticated for any text that `make` cannot have made."""
        if found := _FORM.fullmatch(text):
            return cls(*found.groups())
        raise Unauthenticated

    @property
    def text(self) -> str:
        return f"vk_{self.prefix}_{self.secret}"

    @property
    def secret_hash(self) -> bytes:
        return hashlib.sha256(self.secret.encode()).digest()

    def proves(self, secret_hash: bytes) -> bool:
        """Whether the hash is of this secret, in a time that does not tell how much of it is right."""
        return hmac.compare_digest(self.secret_hash, secret_hash)

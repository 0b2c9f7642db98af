"""Who is asking: `Authorization: Bearer vk_…`, or a socket's first message, proved against the database.

A proof is remembered for a few seconds, so that a key that is revoked is refused soon after.
"""

import hashlib
import re
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from time import monotonic

from starlette.requests import HTTPConnection

from domain.access import service as access
from domain.access.models import Unauthenticated
from domain.access.principal import Principal
from domain.core.db import Database

REMEMBERED_S = 4.0
RECHECK_S = 5.0
"""How often an open socket proves its key again: with the above, a revoked key has it for less than 10 s."""

_BEARER = re.compile(r"Bearer +([\x21-\x7e]{1,500})", re.IGNORECASE)
_MOST = 10_000


class KnownKeys:
    """The principals of keys that were proved lately; found by a hash, since the text is a secret."""

    def __init__(self, db: Database, *, clock: Callable[[], float] = monotonic) -> None:
        self._db, self._clock = db, clock
        self._known: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()

    async def identify(self, authorization: object) -> Principal:
        """Whose `Bearer …` this is; raises Unauthenticated."""
        match = _BEARER.fullmatch(authorization) if isinstance(authorization, str) else None
        if match is None:
            raise Unauthenticated
        text = match.group(1)
        digest = hashlib.sha256(text.encode()).digest()
        known = self._known.get(digest)
        if known is not None and self._clock() < known[0]:
            return known[1]
        return await self._prove(text, digest)

    async def _prove(self, text: str, digest: bytes) -> Principal:
        self._known.pop(digest, None)
        asked = self._clock()
        principal = await access.identify(self._db, text, datetime.now(UTC))
        self._known[digest] = asked + REMEMBERED_S, principal
        if len(self._known) > _MOST:
            self._known.popitem(last=False)
        return principal


async def principal_of(connection: HTTPConnection) -> Principal:
    """Who sends this request; raises Unauthenticated. Doors over plain HTTP depend on it."""
    keys: KnownKeys = connection.app.state.process.keys
    return await keys.identify(connection.headers.get("authorization"))


__all__ = ["RECHECK_S", "REMEMBERED_S", "KnownKeys", "Unauthenticated", "principal_of"]

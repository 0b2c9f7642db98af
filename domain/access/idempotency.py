"""Mutations that may be sent again: the same key and input give the object that the first one made.

Call `find` before the work and `keep` after it, in the transaction of the work.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import IdempotencyKey
from domain.access.principal import Principal
from domain.core.errors import IdempotencyKeyReused, InvalidInput
from domain.core.texts import text_flaw

MAX_LENGTH = 255


def fingerprint(operation: str, values: Mapping[str, Any]) -> bytes:
    """What tells one input from another, whatever the order of its fields."""
    canonical = json.dumps([operation, values], sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).digest()


async def find(session: AsyncSession, principal: Principal, key: str, *, input_hash: bytes) -> UUID | None:
    """The object made before with this key, None at its first use.

    Whoever comes with the same key meanwhile waits until this transaction ends. Raises
    IdempotencyKeyReused when the input was another.
    """
    if flaw := text_flaw(key, longest=MAX_LENGTH):
        raise InvalidInput(f"The idempotency key {flaw}.", path=("idempotencyKey",))
    subject = _subject(principal)
    lock = func.hashtextextended(f"idempotency {subject} {key}", 0)
    await session.execute(select(func.pg_advisory_xact_lock(lock)))
    kept = await session.get(IdempotencyKey, (subject, key))
    if kept is not None and kept.input_hash != input_hash:
        raise IdempotencyKeyReused(f"The idempotency key {key} was used before with other input.")
    return kept.object_id if kept else None


async def keep(
    session: AsyncSession,
    principal: Principal,
    key: str,
    *,
    input_hash: bytes,
    object_id: UUID,
    at: datetime,
) -> None:
    """Remember what `find` answers from now on."""
    await session.execute(
        insert(IdempotencyKey).values(
            subject=_subject(principal), key=key, input_hash=input_hash, object_id=object_id, created_at=at
        )
    )


def _subject(principal: Principal) -> str:
    """The scope first: row security compares it with the transaction's. Keys do not share theirs."""
    return f"{principal.scope} {principal.key_id}"

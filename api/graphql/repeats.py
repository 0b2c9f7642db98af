"""Mutations that may be sent again: with the same idempotency key, the object that the first one made."""

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncSession

from api.graphql.context import Context
from domain.access import idempotency


async def once(
    context: Context,
    session: AsyncSession,
    operation: str,
    input: Any,
    work: Callable[[], Awaitable[UUID]],
) -> UUID:
    """The key of what `work` made, now or when the same `input` came before with its key."""
    if input.idempotency_key is None:
        return await work()
    values = {name: value for name, value in asdict(input).items() if name != "idempotency_key"}
    kept: dict[str, Any] = {"input_hash": idempotency.fingerprint(operation, values)}
    found = await idempotency.find(session, context.principal, input.idempotency_key, **kept)
    if found is not None:
        return found
    made = await work()
    await idempotency.keep(
        session, context.principal, input.idempotency_key, **kept, object_id=made, at=context.now
    )
    return made

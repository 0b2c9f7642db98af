"""Finds keys among those that the transaction's scope may see."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import ApiKey, ApiKeyNotFound


async def with_prefix(session: AsyncSession, prefix: str) -> ApiKey | None:
    return await session.scalar(select(ApiKey).where(ApiKey.prefix == prefix))


async def get(session: AsyncSession, prefix: str, *, lock: bool = False) -> ApiKey:
    """The same, where there must be one: raises ApiKeyNotFound. `lock` keeps others from changing it."""
    statement = select(ApiKey).where(ApiKey.prefix == prefix)
    key = await session.scalar(statement.with_for_update() if lock else statement)
    if key is None:
        raise ApiKeyNotFound(prefix)
    return key


async def keys(session: AsyncSession) -> Sequence[ApiKey]:
    """Oldest first; those revoked and expired among them."""
    return (await session.scalars(select(ApiKey).order_by(ApiKey.created_at, ApiKey.id))).all()

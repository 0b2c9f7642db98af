"""Runs migrations as the owner of the schema, one transaction a migration."""

import asyncio

from alembic import context
from sqlalchemy import Connection, pool
from sqlalchemy.ext.asyncio import create_async_engine

import domain.tables
from domain.core.db import asyncpg_url, connect_args
from domain.core.settings import OWNER, Settings


def include_name(name: str | None, kind: str, _parents: object) -> bool:
    """Day partitions come and go; they are no drift of the schema."""
    return not (kind == "table" and name is not None and name.startswith("minutes_"))


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=domain.tables.metadata,
        include_name=include_name,
        transaction_per_migration=True,
    )
    with context.begin_transaction():
        context.run_migrations()


async def connect() -> None:
    url = context.config.get_main_option("url") or Settings.load().owner_database_url
    engine = create_async_engine(
        asyncpg_url(url), connect_args=connect_args(url, OWNER), poolclass=pool.NullPool
    )
    async with engine.connect() as connection:
        await connection.run_sync(migrate)
        await connection.commit()
    await engine.dispose()


asyncio.run(connect())

"""Conditions in the database that a test waits for."""

from sqlalchemy import text

from domain.core.db import Database


async def lock_is_waited_for(db: Database) -> None:
    """Return once some transaction waits for another's end."""
    waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted")
    while True:
        async with db.read() as session:
            if await session.scalar(waiting):
                return

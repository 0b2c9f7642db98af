"""Writes insights, and ends those that no longer hold."""

from datetime import datetime
from uuid import UUID

from domain.core.db import Database
from domain.insights import writing
from workers.runtime import task


@task("insights.write")
async def write(
    db: Database, at: datetime, *, account_id: str | None = None, incident_id: str | None = None
) -> int:
    """Insights new or changed: of one account, of those an incident has reached, or of all."""
    return await writing.write(
        db,
        at,
        account_id=UUID(account_id) if account_id else None,
        incident_id=UUID(incident_id) if incident_id else None,
    )


@task("insights.expire")
async def expire(db: Database, at: datetime) -> int:
    """Insights that ended."""
    return await writing.expire(db, at)

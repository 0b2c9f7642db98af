"""Carries incidents to the accounts that they touch."""

from datetime import datetime
from uuid import UUID

from domain.core.db import Database
from domain.incidents import detected
from domain.incidents import service as incidents
from workers.runtime import task


@task("incidents.spread")
async def spread(db: Database, at: datetime, *, incident_id: str) -> int:
    """Accounts newly reached: those whose traffic depends on what the incident is about."""
    async with db.transaction() as session:
        return await incidents.spread(session, UUID(incident_id), at=at)


@task("incidents.follow")
async def follow(db: Database, at: datetime) -> int:
    """Accounts whose incidents were brought to where their episodes are."""
    async with db.read() as session:
        accounts = await detected.unsettled_accounts(session)
    for account_id in accounts:
        async with db.transaction() as session:
            await detected.follow(session, account_id, at=at)
    return len(accounts)

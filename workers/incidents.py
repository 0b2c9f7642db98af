"""Carries incidents to the accounts that they touch."""

import time
from datetime import datetime
from uuid import UUID

from domain.core.db import Database
from domain.core.failures import Failures
from domain.incidents import detected
from domain.incidents import service as incidents
from workers.runtime import task

_BUDGET_S = 40.0


@task("incidents.spread")
async def spread(db: Database, at: datetime, *, incident_id: str | None = None) -> int:
    """Accounts newly reached: those whose traffic depends on what the incident is about.

    Without `incident_id`, of all live incidents: whose event went astray, or who came later.
    """
    if incident_id is not None:
        return await _spread(db, UUID(incident_id), at=at)
    reached, failures = 0, Failures("Some incidents did not reach their accounts.")
    async with db.read() as session:
        unspread = await incidents.unspread(session)
    for one in unspread:
        with failures.apart(f"incident {one}"):
            reached += await _spread(db, one, at=at)
    failures.tell()
    return reached


async def _spread(db: Database, incident_id: UUID, *, at: datetime) -> int:
    """Some accounts a transaction: what a time limit leaves is found by the next task."""
    reached = 0
    while True:
        async with db.transaction() as session:
            now = await incidents.spread(session, incident_id, at=at)
        reached += now
        if not now:
            return reached


@task("incidents.follow")
async def follow(db: Database, at: datetime) -> int:
    """Accounts whose incidents were brought to where their episodes are; what is left waits for the next."""
    began, followed, failures = time.monotonic(), 0, Failures("Some incidents cannot be followed.")
    async with db.read() as session:
        accounts = await detected.unsettled_accounts(session)
    for account_id in accounts:
        if time.monotonic() - began >= _BUDGET_S:
            break
        with failures.apart(f"account {account_id}"):
            async with db.transaction() as session:
                await detected.follow(session, account_id, at=at)
            followed += 1
    failures.tell()
    return followed

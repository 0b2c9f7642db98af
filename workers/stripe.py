"""Resolves Stripe's thin notifications, takes in what waited for its account, forgets what is old."""

import time
from datetime import datetime

from domain.core.db import Database
from domain.core.settings import Settings
from domain.stripe import resolving, waiting
from domain.stripe.resolving import Api
from workers.runtime import task

_BUDGET_S = 30.0


@task("stripe.resolve")
async def resolve(db: Database, at: datetime) -> int:
    """Events resolved; none without a key, and they wait."""
    settings = Settings.load()
    key = settings.stripe_api_key.get_secret_value()
    if not key:
        return 0
    return await resolving.resolve_waiting(db, Api(settings.stripe_host, key, settings.stripe_version), at)


@task("stripe.take_mapped")
async def take_mapped(db: Database, at: datetime) -> int:
    """Events dealt with; each has a transaction of its own."""
    began, settled, settings = time.monotonic(), 0, Settings.load()
    while time.monotonic() - began < _BUDGET_S:
        now = await waiting.take_mapped(db, settings, at)
        settled += now
        if not now:
            break
    return settled


@task("stripe.forget")
async def forget(db: Database, at: datetime) -> int:
    """Events dropped; each turn is a transaction of its own."""
    began, dropped = time.monotonic(), 0
    while time.monotonic() - began < _BUDGET_S:
        async with db.transaction() as session:
            now = await waiting.forget(session, at)
        dropped += now
        if not now:
            break
    return dropped

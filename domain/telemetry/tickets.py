"""What an account's average approved payment is worth, so that missing payments can be told in money."""

from datetime import datetime, timedelta

import numpy as np
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.telemetry import queries
from domain.telemetry.models import Series
from domain.telemetry.queries import Resolution, Window

OVER = timedelta(days=7)


async def average_ticket(session: AsyncSession, account: Account, *, at: datetime) -> float | None:
    """Approved amount over approved payments in the week before `at`, in minor units of the account's currency.

    None where no amounts were sent. Amounts that name another currency are left out, and so are no
    part of it: an account that is paid in several has the average of its own.
    """
    rows = await session.scalars(
        select(Series).where(
            Series.account_id == account.id,
            Series.metric.in_(("payments.amount", "payments.count")),
            Series.labels["outcome"].astext == "approved",
            Series.is_measured,
        )
    )
    series = [one for one in rows if one.labels.get("currency", account.currency) == account.currency]
    read = await queries.read(session, series, Window(at - OVER, at, Resolution.HOUR))
    totals = {"payments.amount": 0.0, "payments.count": 0.0}
    for one, data in zip(series, read, strict=True):
        totals[one.metric] += float(np.nansum(data.values))
    amount, count = totals["payments.amount"], totals["payments.count"]
    return amount / count if amount > 0 and count > 0 else None

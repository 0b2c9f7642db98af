"""What an account's payments come to, so that missing ones can be told in money; never below nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.telemetry.derived import ATTEMPTED
from domain.telemetry.models import Series
from domain.telemetry.sums import PIECES, Stretch

OVER = timedelta(days=7)
_95 = 1.96
# Amounts are set against the payments of those hours alone in which amounts were sent.
_TURNOVER = text(
    PIECES
    + """
, hourly AS (
  SELECT sum(value) FILTER (WHERE series_id = ANY(:amounts)) AS amount,
         sum(value) FILTER (WHERE series_id = ANY(:approved)) AS approved,
         sum(value) FILTER (WHERE series_id = ANY(:attempted)) AS attempted
  FROM pieces GROUP BY at
)
SELECT count(*), coalesce(sum(attempted), 0), coalesce(sum(approved), 0), sum(amount),
       sum(approved) FILTER (WHERE amount IS NOT NULL)
FROM hourly
"""
)

_APPROVED = text(
    """
    SELECT s.account_id, sum(h.value)
    FROM series s
    JOIN accounts a ON a.id = s.account_id
    JOIN hours h ON h.account_id = s.account_id AND h.series_id = s.id
    WHERE s.account_id = ANY(:accounts) AND s.metric = 'payments.amount' AND s.is_measured
      AND s.labels->>'outcome' = 'approved' AND coalesce(s.labels->>'currency', a.currency) = a.currency
      AND h.at >= :from AND h.at < :until
    GROUP BY 1
    """
)


@dataclass(frozen=True)
class Turnover:
    """Payments of the `hours` that had any; `ticket` is the mean approved amount, in minor units.

    `ticket` is None where no amounts were sent in the account's currency.
    """

    hours: int
    attempted: float
    approved: float
    ticket: float | None

    @property
    def approved_share(self) -> float:
        """Approved payments of one that is attempted, 0..1."""
        return self.approved / self.attempted if self.attempted > 0 else 0.0

    @property
    def approved_a_day(self) -> float:
        return self.approved / self.hours * 24 if self.hours else 0.0


@dataclass(frozen=True)
class Worth:
    """Money at 95 %, in minor units."""

    low: int
    mid: int
    high: int


async def turnover(session: AsyncSession, account: Account, *, at: datetime) -> Turnover:
    """What came in the week before `at`.

    Amounts and payments that name another currency than the account's are left out: money is then
    that of its own currency alone, and never mixed.
    """
    rows = await session.scalars(
        select(Series).where(
            Series.account_id == account.id,
            Series.metric.in_(("payments.amount", "payments.count")),
            Series.is_measured,
        )
    )
    own = [one for one in rows if one.labels.get("currency", account.currency) == account.currency]
    counts = [one for one in own if one.metric == "payments.count"]
    groups = {
        "amounts": [one for one in own if one.metric == "payments.amount" and _is_approved(one)],
        "approved": [one for one in counts if _is_approved(one)],
        "attempted": [one for one in counts if one.labels.get("outcome") in ATTEMPTED.total],
    }
    binds = {name: [one.id for one in group] for name, group in groups.items()}
    stretch = Stretch(at - OVER, at).binds()
    series = sorted({key for keys in binds.values() for key in keys})
    row = await session.execute(_TURNOVER, {"account": account.id, "series": series, **binds, **stretch})
    hours, attempted, approved, amount, paid = row.one()
    return Turnover(hours, attempted, approved, amount / paid if amount and paid and amount > 0 else None)


async def approved_amounts(
    session: AsyncSession, account_ids: Sequence[UUID], *, at: datetime
) -> dict[UUID, int]:
    """What each account was paid in the whole hours of the week before `at`, in minor units of its currency.

    Accounts that sent no amounts in it are left out.
    """
    until = at.replace(minute=0, second=0, microsecond=0)
    binds = {"accounts": list(account_ids), "from": until - OVER, "until": until}
    return {key: round(amount) for key, amount in await session.execute(_APPROVED, binds)}


def worth(missing: float, variance: float, *, ticket: float | None) -> Worth | None:
    """What `missing` payments (and their variance) were worth; None where no amounts are known."""
    if ticket is None:
        return None
    margin = _95 * variance**0.5
    low, mid, high = (round(max(0.0, missing + sign * margin) * ticket) for sign in (-1, 0, 1))
    return Worth(low, mid, high)


def _is_approved(series: Series) -> bool:
    return series.labels.get("outcome") == "approved"

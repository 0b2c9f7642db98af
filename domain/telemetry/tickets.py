"""What an account's payments come to, so that missing ones can be told in money; never below nothing."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.telemetry import reading, steps
from domain.telemetry.derived import ATTEMPTED
from domain.telemetry.models import Series
from domain.telemetry.reading import Grid

OVER = timedelta(days=7)
_95 = 1.96
_APPROVED = text(
    """
    SELECT s.account_id, s.number
    FROM series s JOIN accounts a ON a.id = s.account_id
    WHERE s.account_id = ANY(:accounts) AND s.metric = 'payments.amount' AND s.is_measured
      AND s.labels->>'outcome' = 'approved' AND coalesce(s.labels->>'currency', a.currency) = a.currency
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
    own = [
        one
        for one in rows
        if _is_meant(one) and one.labels.get("currency", account.currency) == account.currency
    ]
    members = [(account.id, one.number) for one in own if one.number is not None]
    edges = _hours(at - OVER, at)
    if not members:
        return Turnover(0, 0.0, 0.0, None)
    grid = await reading.read(session, members, edges, step=steps.HOUR)
    amount, has_amount = _over(grid, own, lambda one: one.metric == "payments.amount" and _is_approved(one))
    approved, _ = _over(grid, own, lambda one: one.metric == "payments.count" and _is_approved(one))
    attempted, _ = _over(
        grid, own, lambda one: one.metric == "payments.count" and one.labels.get("outcome") in ATTEMPTED.total
    )
    # Amounts are set against the payments of those hours alone in which amounts were sent.
    total, paid = amount.sum(), approved[has_amount].sum()
    hours = int((grid.count > 0).any(axis=0).sum())
    ticket = float(total / paid) if total > 0 and paid else None
    return Turnover(hours, float(attempted.sum()), float(approved.sum()), ticket)


def _over(
    grid: Grid, series: Sequence[Series], is_meant: Callable[[Series], bool]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The sum over the series that are meant in each hour, and whether there was any."""
    rows = [row for row, one in enumerate(series) if is_meant(one)]
    seen: NDArray[np.bool_] = np.any(grid.count[rows] > 0, axis=0)
    return grid.value[rows].sum(axis=0), seen


def _hours(begin: datetime, end: datetime) -> NDArray[np.int64]:
    """The edges of whole hours, and both ends."""
    first, last = int(begin.timestamp()) // 60 * 60, int(end.timestamp()) // 60 * 60
    return np.unique(np.r_[first, np.arange(-(-first // 3600) * 3600, last, 3600), last])


async def approved_amounts(
    session: AsyncSession, account_ids: Sequence[UUID], *, at: datetime
) -> dict[UUID, int]:
    """What each account was paid in the whole hours of the week before `at`, in minor units of its currency.

    Accounts that sent no amounts in it are left out.
    """
    until = at.replace(minute=0, second=0, microsecond=0)
    rows = (await session.execute(_APPROVED, {"accounts": list(account_ids)})).all()
    if not rows:
        return {}
    edges = np.array([int((until - OVER).timestamp()), int(until.timestamp())])
    grid = await reading.read(session, [tuple(row) for row in rows], edges, step=steps.HOUR)
    amounts: dict[UUID, float] = {}
    for (account_id, _), value, count in zip(rows, grid.value[:, 0], grid.count[:, 0], strict=True):
        if count:
            amounts[account_id] = amounts.get(account_id, 0.0) + float(value)
    return {account_id: round(amount) for account_id, amount in amounts.items()}


def worth(missing: float, variance: float, *, ticket: float | None) -> Worth | None:
    """What `missing` payments (and their variance) were worth; None where no amounts are known."""
    if ticket is None:
        return None
    margin = _95 * variance**0.5
    low, mid, high = (round(max(0.0, missing + sign * margin) * ticket) for sign in (-1, 0, 1))
    return Worth(low, mid, high)


def _currency(series: Series, account: Account) -> str:
    return series.labels.get("currency", account.currency)


def _is_meant(series: Series) -> bool:
    """Whether it is of payments that were attempted, or of the money of approved ones."""
    outcome = series.labels.get("outcome")
    return outcome in ATTEMPTED.total if series.metric == ATTEMPTED.source else outcome == "approved"


def _is_approved(series: Series) -> bool:
    return series.labels.get("outcome") == "approved"

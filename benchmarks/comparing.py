"""Whether all that a fleet's pushes said is there, and nothing of it twice: the sums of every series."""

import json
from collections.abc import Mapping
from uuid import UUID

import asyncpg
import click
import numpy as np
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks import fleet
from benchmarks.pushes import ACCOUNTS_A_BODY, Values
from benchmarks.system import System
from domain.core.db import Database
from domain.core.settings import WORKER
from domain.telemetry import reading, steps

_SERIES = """
SELECT a.external_id, s.metric, s.labels::text, a.id, s.number
FROM series s JOIN accounts a ON a.id = s.account_id
WHERE s.is_measured AND a.external_id LIKE 'fleet-%'
"""
Key = tuple[str, str, frozenset[tuple[str, str]]]


async def compare(running: System, sums: Mapping[int, Values], *, began: float, ended: float) -> None:
    """Raises ClickException unless what was kept from `began` to `ended` (epoch seconds) is what was sent.

    `sums` is by the place of the body among those of a push.
    """
    members = await _members(running)
    edges = np.array([began // 60 * 60, ended // 60 * 60 + 60], np.int64)
    db = Database(running.postgres.url(WORKER), WORKER, pool_size=1)
    try:
        async with db.read() as session:
            for place, sent in sums.items():
                await _compare(session, members, edges, place, sent)
    finally:
        await db.dispose()


async def _members(running: System) -> dict[Key, tuple[UUID, int]]:
    connection: asyncpg.Connection = await asyncpg.connect(running.postgres.url())
    try:
        rows = await connection.fetch(_SERIES)
    finally:
        await connection.close()
    return {
        (account, metric, frozenset(json.loads(labels).items())): (account_id, number)
        for account, metric, labels, account_id, number in rows
    }


async def _compare(
    session: AsyncSession,
    members: Mapping[Key, tuple[UUID, int]],
    edges: NDArray[np.int64],
    place: int,
    sent: Values,
) -> None:
    first = place * ACCOUNTS_A_BODY
    keys = [
        (fleet.account(number), one.metric, frozenset(one.labels.items()))
        for number in range(first, first + ACCOUNTS_A_BODY)
        for one in fleet.series()
    ]
    grid = await reading.read(session, [members[key] for key in keys], edges, step=steps.MINUTE)
    is_histogram = np.array([key[1].endswith(".latency") for key in keys])
    for what, kept, expected in (
        ("sums", grid.value[~is_histogram, 0], sent.sums),
        ("counts", grid.count[is_histogram, 0], sent.counts),
    ):
        if not np.array_equal(kept, expected):
            wrong, more = int(np.count_nonzero(kept != expected)), float(kept.sum() - expected.sum())
            raise click.ClickException(
                f"Body {place}: {wrong} {what} of {len(kept)} differ from what was acknowledged, by {more:+g}"
            )

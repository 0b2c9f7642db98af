"""What a pool process has of its own: one event loop and one database, made after the fork.

A task is an async function of the database and the time: `async def fit(db, at, **arguments)`.
"""

import asyncio
import functools
import logging
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Concatenate, ParamSpec

from celery.signals import worker_process_init, worker_process_shutdown

from domain.core.db import Database, will_pass
from domain.core.settings import WORKER, Settings
from workers.app import SOFT_LIMIT_S, app
from workers.lifeline import end_with_parent

P = ParamSpec("P")
Work = Callable[Concatenate[Database, datetime, P], Awaitable[object]]

log = logging.getLogger(__name__)


class Runtime:
    """The loop and the database of this process; a task that runs too long is cancelled."""

    def __init__(self, settings: Settings) -> None:
        self._runner = asyncio.Runner()
        self._db = Database(settings.worker_database_url, WORKER, pool_size=2)

    def run(self, work: Callable[[Database, datetime], Awaitable[object]]) -> object:
        """Tasks are idempotent: while the database is away, this one is begun again until it is back."""
        return self._runner.run(self._patiently(work))

    async def _patiently(self, work: Callable[[Database, datetime], Awaitable[object]]) -> object:
        async with asyncio.timeout(SOFT_LIMIT_S):
            while True:
                try:
                    return await work(self._db, datetime.now(UTC))
                except Exception as error:
                    if not will_pass(error):
                        raise
                    log.warning("begun again: %s", error)
                await asyncio.sleep(1)

    def close(self) -> None:
        self._runner.run(self._db.dispose())
        self._runner.close()


_runtime: Runtime | None = None


@worker_process_init.connect
def _open(**_: Any) -> None:
    global _runtime
    end_with_parent(signal.SIGKILL)  # a pool whose worker was killed would finish its task first
    _runtime = Runtime(Settings.load())


@worker_process_shutdown.connect
def _close(**_: Any) -> None:
    global _runtime
    if _runtime is not None:
        _runtime.close()
    _runtime = None


def task(name: str) -> Callable[[Work[P]], Any]:
    """Register an async function as the Celery task `name`, which takes its keyword arguments."""

    def register(work: Work[P]) -> Any:
        @app.task(name=name)
        @functools.wraps(work)
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            if _runtime is None:
                raise RuntimeError(f"{name} runs in a process of a worker's pool only")
            done = _runtime.run(lambda db, at: work(db, at, *args, **kwargs))
            if done:
                log.info("%s: %s", name, done)

        return run

    return register

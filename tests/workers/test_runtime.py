"""Tasks go to their queues, and run on one loop and one database that outlast a lost connection."""

import subprocess
import sys
from datetime import datetime
from importlib import import_module
from typing import Any

import pytest
from sqlalchemy import text

from domain.core.db import Database
from domain.core.settings import Settings
from workers.app import BEAT, app, make_app
from workers.runtime import Runtime


@pytest.fixture(scope="module")
def tasks() -> dict[str, Any]:
    for module in app.conf.include:
        import_module(module)
    return {name: task for name, task in app.tasks.items() if not name.startswith("celery.")}


def test_the_fold_waits_for_nothing_and_what_is_slow_holds_nothing_up(tasks: dict[str, Any]) -> None:
    queues = {name: app.amqp.router.route({}, name)["queue"].name for name in tasks}
    assert [name for name, queue in queues.items() if queue == "ingest"] == ["telemetry.fold"]
    assert queues["anomalies.judge"] == queues["incidents.follow"] == "live"
    assert queues["forecasts.fit"] == queues["forecasts.plan"] == "slow"
    assert {name for name, queue in queues.items() if queue == "slow"} == {
        name for name in tasks if name.startswith(("forecasts.", "insights.", "stripe."))
    }
    for name, queue in app.amqp.queues.items():
        assert (queue.exchange.name, queue.routing_key) == (name, name)


def test_every_scheduled_task_exists(tasks: dict[str, Any]) -> None:
    assert {entry["task"] for entry in BEAT.values()} <= tasks.keys()


def test_a_message_is_given_again_when_its_worker_is_lost_and_not_while_it_may_run(
    tasks: dict[str, Any],
) -> None:
    for task in tasks.values():
        assert task.acks_late
        assert task.reject_on_worker_lost
        assert task.ignore_result
    redis = make_app(Settings(BROKER_URL="redis+socket:///run/valkey.sock")).conf
    assert redis.broker_transport_options["visibility_timeout"] > redis.task_time_limit
    rabbit = make_app(Settings(BROKER_URL="amqp://broker")).conf
    assert "visibility_timeout" not in rabbit.broker_transport_options


def test_workers_load_prophet_only_to_fit() -> None:
    code = (
        "import sys, workers.forecasts, workers.anomalies;"
        "sys.exit(not {'prophet', 'pandas'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_task_is_begun_again_when_its_connection_was_lost(settings: Settings) -> None:
    runtime, attempts = Runtime(settings), []

    async def work(db: Database, at: datetime) -> object:
        attempts.append(at)
        async with db.transaction() as session:
            if len(attempts) == 1:
                await session.execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))
            return await session.scalar(text("SELECT current_user::text"))

    try:
        assert runtime.run(work) == "vitals_worker"
    finally:
        runtime.close()
    assert len(attempts) == 2
    assert all(at.tzinfo is not None for at in attempts)


def test_a_task_that_fails_for_good_fails_at_once(settings: Settings) -> None:
    runtime, attempts = Runtime(settings), []

    async def work(db: Database, at: datetime) -> None:
        attempts.append(at)
        async with db.transaction() as session:
            await session.execute(text("SELECT 1 / 0"))

    try:
        with pytest.raises(Exception, match="division by zero"):
            runtime.run(work)
    finally:
        runtime.close()
    assert len(attempts) == 1

"""Celery: queues, routing, beat. The broker carries wake-ups only; what must not be lost is in Postgres.

Every task is idempotent and locks in Postgres what must not happen twice, so a message delivered again,
and a second beat, do no harm.
"""

import logging
from datetime import timedelta
from typing import Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import setup_logging, worker_init
from kombu.entity import Exchange, Queue

from domain.core.settings import Settings

INGEST, LIVE, SLOW = "ingest", "live", "slow"
SLICES = ("telemetry", "anomalies", "forecasts", "incidents", "statuspages", "insights", "stripe")
SOFT_LIMIT_S, HARD_LIMIT_S = 50, 60
_REDELIVERED_AFTER_S = 80  # Redis only; just above the longest task


def _transport_options(broker_url: str) -> dict[str, Any]:
    """Redis gives an unacknowledged message again after a time; AMQP does as the connection ends."""
    if not broker_url.startswith(("redis", "sentinel")):
        return {"confirm_publish": True}
    return {
        "visibility_timeout": _REDELIVERED_AFTER_S,
        "unacked_restore_throttle": 1,
        "socket_keepalive": True,
        "health_check_interval": 30,
    }


def _queue(name: str) -> Queue:
    """With an exchange of its own: queues that share one and its key all get every message."""
    exchange = Exchange(name, type="direct")  # type: ignore[no-untyped-call]  # kombu has no types
    return Queue(name, exchange, routing_key=name)  # type: ignore[no-untyped-call]


def _every(seconds: float, task: str) -> dict[str, Any]:
    """A wake-up that waited as long as its period is dropped: the next one does its work."""
    return {"task": task, "schedule": timedelta(seconds=seconds), "options": {"expires": seconds}}


def make_app(settings: Settings) -> Celery:
    made = Celery(
        "vitals",
        broker=settings.broker_url,
        include=[f"workers.{slice_}" for slice_ in SLICES],
    )
    made.conf.update(
        task_queues=tuple(_queue(name) for name in (INGEST, LIVE, SLOW)),
        task_default_queue=LIVE,
        task_routes=(
            {
                "telemetry.fold": {"queue": INGEST},
                "forecasts.*": {"queue": SLOW},
                "insights.*": {"queue": SLOW},
                "stripe.*": {"queue": SLOW},
            },
        ),
        task_serializer="json",
        accept_content=["json"],
        result_backend=None,
        task_ignore_result=True,
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        # The soft limit is the runtime's: an exception out of a signal would tear its event loop.
        task_time_limit=HARD_LIMIT_S,
        worker_prefetch_multiplier=1,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        worker_send_task_events=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options=_transport_options(settings.broker_url),
        enable_utc=True,
        timezone="UTC",
        beat_schedule=BEAT,
    )
    return made


# The relay wakes the fold, the judge and the fits as soon as there is something to do: these make sure.
BEAT: dict[str, dict[str, Any]] = {
    "fold": _every(5, "telemetry.fold"),
    "judge": _every(5, "anomalies.judge"),
    "follow": _every(15, "incidents.follow"),
    "spread": _every(60, "incidents.spread"),
    "apply pages": _every(15, "statuspages.apply"),
    "write insights": _every(120, "insights.write"),
    "expire insights": _every(3600, "insights.expire"),
    "resolve stripe events": _every(15, "stripe.resolve"),
    "take mapped stripe events": _every(30, "stripe.take_mapped"),
    "forget stripe events": _every(3600, "stripe.forget"),
    "roll up": _every(30, "telemetry.roll_up"),
    "fit": _every(30, "forecasts.fit"),
    "plan": _every(600, "forecasts.plan"),
    "make partitions": _every(3600, "telemetry.make_partitions"),
    "pack": _every(300, "telemetry.pack"),
    "drop what is old": {"task": "telemetry.drop_old", "schedule": crontab(hour="3", minute="20")},
}

app = make_app(Settings.load())


@setup_logging.connect
def _log_plainly(loglevel: int | None = None, **_: Any) -> None:
    logging.basicConfig(
        level=loglevel or logging.INFO,
        format="%(asctime)s %(levelname)s %(processName)s %(name)s: %(message)s",
    )
    logging.getLogger("amqp").setLevel(logging.WARNING)


@worker_init.connect
def _load_prophet(sender: Any, **_: Any) -> None:
    """Once, before the pool forks, and only where forecasts are fitted: it takes seconds and memory."""
    if SLOW in sender.app.amqp.queues.consume_from:
        from domain.forecasts import prophet_model

        prophet_model.load()

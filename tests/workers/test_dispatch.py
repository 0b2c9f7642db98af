"""Sending to a broker that stops answering."""

import inspect
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from domain.core.settings import Settings
from domain.delivery.streams import Published
from ops.embedded.valkey import Valkey
from workers import dispatch
from workers.app import app, make_app
from workers.dispatch import CALLED_FOR, Broker, BrokerAway, Call

CALL = Call("incidents.spread", (("incident_id", "1"),))


@pytest.fixture
def frozen(room: Path) -> Iterator[Valkey]:
    """A broker of the test's own, since it is to be stopped."""
    place = room / uuid4().hex[:8]
    place.mkdir()
    server = Valkey(place, log=place / "log")
    server.start()
    yield server
    if server.process is not None:
        os.kill(server.process.pid, signal.SIGCONT)
    server.stop()


def test_a_broker_that_freezes_is_given_up_and_used_again_when_it_is_back(frozen: Valkey) -> None:
    broker = Broker(make_app(Settings(BROKER_URL=frozen.url())))
    broker.send([CALL])
    assert frozen.process is not None

    os.kill(frozen.process.pid, signal.SIGSTOP)
    for _ in ("a connection that stands", "a new one"):
        with pytest.raises(BrokerAway):
            broker.send([CALL])
    os.kill(frozen.process.pid, signal.SIGCONT)

    broker.send([CALL])
    broker.close()


def test_every_task_that_is_sent_exists_and_takes_its_arguments() -> None:
    app.loader.import_default_modules()
    events = [Published(uuid4(), name, uuid4(), who) for name in CALLED_FOR for who in (None, uuid4())]
    calls = [*dispatch.called_for(events), *(Call(watch.task) for watch in dispatch.watches())]

    for call in calls:
        signature = inspect.signature(app.tasks[call.task].run)
        signature.bind("db", "at", **dict(call.arguments))


def test_tasks_that_several_events_call_for_are_sent_once() -> None:
    account_id, incident_id = uuid4(), uuid4()
    events = [Published(uuid4(), "incident.reached", incident_id, account_id) for _ in range(3)]

    calls = dispatch.called_for([*events, Published(uuid4(), "incident.acknowledged", incident_id, None)])

    assert calls == [Call("insights.write", (("account_id", str(account_id)),))]

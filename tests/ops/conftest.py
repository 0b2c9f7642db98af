"""The API as a process of its own would serve it, and the command line that speaks to it."""

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from time import monotonic, sleep

import pytest
import uvicorn
from click.testing import CliRunner, Result

from api.app import create_app
from domain.core.settings import Settings
from ops.cli import main

Vitals = Callable[..., Awaitable[Result]]


@pytest.fixture
def api(settings: Settings) -> Iterator[str]:
    """The address of an API on a free port."""
    server = uvicorn.Server(uvicorn.Config(create_app(settings), log_level="warning"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    deadline = monotonic() + 30
    while not server.started:
        assert thread.is_alive()
        assert monotonic() < deadline
        sleep(0.01)
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    server.should_exit = True
    thread.join()
    listening.close()


@pytest.fixture
def vitals(settings: Settings, tmp_path: Path) -> Vitals:
    """Runs the command line, in a thread since it has an event loop of its own."""
    environment = {"DATABASE_URL": settings.database_url, "VITALS_DATA": str(tmp_path)}

    async def run(*arguments: object) -> Result:
        texts = [str(one) for one in arguments]
        return await asyncio.to_thread(CliRunner().invoke, main, texts, env=environment)

    return run

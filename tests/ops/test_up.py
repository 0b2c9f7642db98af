"""`vitals up`: refusals before anything starts, and a whole stack from nothing, killed and started again."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from ops.cli import main
from ops.embedded.processes import hold

Running = subprocess.Popen[str]
Start = Callable[[], tuple[Running, str]]


@pytest.fixture
def data(room: Path, tmp_path: Path) -> Path:
    return room / f"up-{tmp_path.name}"


def test_a_second_stack_of_the_same_data_is_refused(data: Path) -> None:
    data.mkdir()
    lock = hold(data / "lock")
    assert lock is not None
    told = CliRunner().invoke(main, ["up", "--port", "0", "--data", str(data)])
    os.close(lock)
    assert told.exit_code == 1
    assert told.output == f"Error: already running with {data}: stop that one, or set VITALS_DATA\n"


def test_a_port_in_use_is_named_before_anything_starts(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        told = CliRunner().invoke(main, ["up", "--data", str(data)], env={"PORT": str(port)})
    assert told.exit_code == 1
    assert told.output == f"Error: port {port}: Address already in use; choose another with PORT=…\n"
    assert not (data / "postgres").exists()


@pytest.fixture
def start(data: Path) -> Iterator[Start]:
    """Call it to run `vitals up` to `ready`; gives the process and the API's address."""
    running: list[Running] = []
    env = {name: value for name, value in os.environ.items() if not name.endswith("_URL")}

    def begin() -> tuple[Running, str]:
        argv = [sys.executable, "-m", "ops", "up", "--port", "0", "--data", str(data)]
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, env=env)
        running.append(process)
        assert process.stdout is not None
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(r"GraphQL +(http://\S+)/graphql", line):
                return process, found[1]
        raise AssertionError(said)

    yield begin
    for process in running:
        process.terminate()
        process.wait()


def test_a_stack_from_nothing_outlives_a_kill(data: Path, start: Start) -> None:
    first, url = start()
    with urllib.request.urlopen(f"{url}/readyz") as answer:
        assert answer.status == 200
    credentials = data / "credentials.json"
    assert credentials.stat().st_mode & 0o777 == 0o600
    kept = json.loads(credentials.read_text())

    first.kill()
    first.wait()
    left = hold(data / "children", within_s=30)
    assert left is not None
    os.close(left)

    second, _ = start()
    assert json.loads(credentials.read_text())["admin"] == kept["admin"]
    second.send_signal(signal.SIGINT)
    said = second.communicate()[0]
    assert said.endswith("stopping\nstopped\n")
    assert second.returncode == 0

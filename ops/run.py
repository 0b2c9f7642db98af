"""The processes of an installation: each command becomes its process, so signals reach it directly."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import click

_SINGLE_THREADED = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def become(module: str, *arguments: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", module, *arguments])


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8000, show_default=True, envvar="PORT")
def serve(host: str, port: int) -> None:
    """Run one API process. Behind a proxy, start as many as there are cores."""
    become(
        "uvicorn", "api.app:create_app", "--factory", "--host", host, "--port", str(port),
        "--timeout-graceful-shutdown", "5", "--no-access-log", "--no-server-header",
        "--ws-max-size", "262144", "--ws-per-message-deflate", "false",
    )  # fmt: skip


@click.command()
@click.option("--queues", default="ingest,live,slow", show_default=True, help="Comma-separated.")
@click.option("--concurrency", default=2, show_default=True, help="Processes in the pool.")
def worker(queues: str, concurrency: int) -> None:
    """Run one worker: a pool that takes tasks from the broker.

    `ingest` folds what was acknowledged, `live` judges and follows, `slow` fits forecasts. A queue with a
    worker of its own does not wait for the others.
    """
    for name in _SINGLE_THREADED:  # a pool has its processes; threads of BLAS would only compete
        os.environ.setdefault(name, "1")
    become(
        "celery", "-A", "workers.app:app", "worker", "-Q", queues, "-c", str(concurrency),
        "-n", f"{queues.replace(',', '-')}-{os.getpid()}@%h", "-l", "INFO",
    )  # fmt: skip


@click.command()
@click.option(
    "--data",
    default=".local",
    show_default=True,
    envvar="VITALS_DATA",
    type=click.Path(path_type=Path),
    help="Holds the schedule's memory.",
)
def beat(data: Path) -> None:
    """Run the clock that asks for the scheduled tasks."""
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    become(
        "celery", "-A", "workers.app:app", "beat",
        "-s", str(data / "beat-schedule"), "--pidfile", "", "-l", "INFO",
    )  # fmt: skip


@click.command()
def relay() -> None:
    """Run one relay; a second one waits until the first is gone."""
    become("workers.relay")

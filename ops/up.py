"""`vitals up`: all of it on one machine, with servers of its own where the environment names none."""

import socket
from pathlib import Path

import click

from ops.embedded.places import UnsafePlace
from ops.embedded.processes import ServerFailed
from ops.stack import Stack
from ops.supervisor import GaveUp

_DATA = click.option(
    "--data",
    default=".local",
    show_default=True,
    envvar="VITALS_DATA",
    type=click.Path(path_type=Path, file_okay=False),
    help="Where databases, logs and credentials are kept.",
)


@click.command()
@click.option("--port", default=8000, show_default=True, envvar="PORT", help="0: any free one.")
@_DATA
@click.option("--demo", is_flag=True, help="Load the demonstration set into any database.")
def up(port: int, data: Path, demo: bool) -> None:
    """Run all of it on this machine until Ctrl-C.

    DATABASE_URL and BROKER_URL name servers to use instead of the embedded ones.
    """
    try:
        stack = Stack(data.resolve())
        stack.run(port=free_port(port), demo=demo)
    except (GaveUp, ServerFailed, UnsafePlace) as problem:
        raise click.ClickException(str(problem)) from problem


@click.command(hidden=True)
@click.argument("graphql")
@click.option("--demo", is_flag=True, help="Load the demonstration set.")
def prepare(graphql: str, demo: bool) -> None:
    """Write the credentials of a fresh installation, whose API answers at GRAPHQL."""
    from domain.core.settings import Settings  # here, since `up` itself needs neither
    from ops.demo import prepare as prepare_installation

    settings = Settings.load()
    prepare_installation(settings, graphql, settings.data, demo=demo)


def free_port(port: int) -> int:
    """`port`, or any that is free when it is 0; ServerFailed when it can not be had."""
    with socket.socket() as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind(("127.0.0.1", port))
        except OSError as problem:
            reason = problem.strerror
            raise ServerFailed(f"port {port}: {reason}; choose another with PORT=…") from problem
        found: int = trial.getsockname()[1]
        return found

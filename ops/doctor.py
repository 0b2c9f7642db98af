"""`vitals doctor`: one line for each thing that must be right, and what to do about what is not."""

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg
import click
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from sqlalchemy import make_url

from domain.core.db import listen
from domain.core.settings import APP, WORKER, Settings
from ops import migrate
from ops.embedded import places, postgres, valkey
from ops.embedded.processes import ServerFailed

_PATIENCE_S = 5.0
_UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError)
_NO_DATABASE = "start one (`make up` does), or set DATABASE_URL"
_NO_BROKER = "start one (`make up` does), or set BROKER_URL"
_PRIVILEGES = """
    SELECT string_agg(rolname, ', ') FROM pg_roles
    WHERE (rolsuper OR rolbypassrls) AND rolname IN (current_user, session_user)
"""

_SET_ASIDE = """
    SELECT nullif(concat_ws(', ',
      (SELECT count(*) || ' unreadable batches (ingest_log.failure)' FROM ingest_log
       WHERE failure IS NOT NULL HAVING count(*) > 0),
      (SELECT count(*) || ' refused snapshots (status_snapshots.refusal)' FROM status_snapshots
       WHERE refusal IS NOT NULL AND attempts > 0 HAVING count(*) > 0),
      (SELECT count(*) || ' forecasts failed since yesterday (jobs.failure)' FROM jobs
       WHERE status = 'FAILED' AND finished_at > now() - interval '1 day' HAVING count(*) > 0),
      (SELECT count(*) || ' events unsent for over a minute (is the relay running?)' FROM events
       WHERE (published_at IS NULL OR dispatched_at IS NULL)
         -- An id begins with the milliseconds of its making; `at` is the time that it tells of.
         AND ('x' || left(replace(id::text, '-', ''), 12))::bit(48)::bigint
           < extract(epoch FROM now() - interval '1 minute') * 1000
       HAVING count(*) > 0)), '')
"""


@dataclass(frozen=True)
class Finding:
    """What was looked at; `advice` says what to do where it is not right."""

    subject: str
    detail: str
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'bad' if self.advice else 'ok':<4}{self.subject:<15}{self.detail}"
        return f"{line}\n    -> {self.advice}" if self.advice else line


@click.command()
def doctor() -> None:
    """Say what is right and wrong with this installation; ends with 1 when something is wrong.

    Where DATABASE_URL and BROKER_URL are not set, it looks at the servers of a running `vitals up`.
    """
    wrong = 0
    for finding in examine(Settings.load()):
        click.echo(str(finding))
        wrong += bool(finding.advice)
    if wrong:
        raise click.ClickException(f"{wrong} of these need attention")


def examine(settings: Settings) -> Iterator[Finding]:
    """Everything in order: the local first, then what must be reached."""
    yield python(sys.version_info[:3])
    yield program("postgres", lambda: postgres.package() / "pginstall" / "bin", "DATABASE_URL")
    yield program("valkey", valkey.binary, "BROKER_URL")
    yield sockets(settings.data.resolve())
    yield role(APP, settings.database_url)
    yield role(WORKER, settings.worker_database_url)
    yield schema(settings)
    yield work(settings)
    yield broker(settings.broker_url)


def python(version: tuple[int, ...]) -> Finding:
    detail = ".".join(map(str, version))
    return Finding("python", detail, "" if version >= (3, 11) else "use Python 3.11 or newer")


def program(name: str, find: Callable[[], Path], variable: str) -> Finding:
    """An embedded server's program; without it, `variable` must name a server."""
    try:
        return Finding(name, f"embedded, {find()}")
    except ServerFailed as problem:
        return Finding(name, "not embedded", "" if os.environ.get(variable) else str(problem))


def sockets(data: Path) -> Finding:
    """A long path is no fault: its sockets go to the system's temporary directory."""
    longest = len(os.fsencode(data / "postgres" / "run" / postgres.SOCKET_NAME))
    fits = longest <= places.SOCKET_PATH_LIMIT
    where = "under the data directory" if fits else "under the temporary directory"
    return Finding("sockets", f"{where} ({longest} of {places.SOCKET_PATH_LIMIT} bytes)")


def role(name: str, url: str) -> Finding:
    """Processes must be bound by row security: neither login nor role may be above it."""
    try:
        above = asyncio.run(_ask(url, name, _PRIVILEGES))
    except _UNREACHABLE as problem:
        return Finding(name, f"{_place(url)}: {problem}", _NO_DATABASE)
    if above:
        return Finding(name, f"acts as {above}, whom row security does not bind", f"log in as {name}")
    return Finding(name, f"{_place(url)}, bound by row security")


def schema(settings: Settings) -> Finding:
    try:
        current, newest = migrate.status(settings)
    except _UNREACHABLE as problem:
        advice = "run `vitals migrate up` with an administrator's login in VITALS_OWNER_DATABASE_URL"
        return Finding("schema", str(problem), advice)
    advice = "" if current == newest else "run `vitals migrate up`"
    return Finding("schema", f"at {current or 'base'}, newest is {newest}", advice)


def work(settings: Settings) -> Finding:
    """What the workers gave up or have not come to; none of it is lost."""
    try:
        waiting = asyncio.run(_ask(settings.worker_database_url, WORKER, _SET_ASIDE))
    except _UNREACHABLE as problem:
        return Finding("work", str(problem), _NO_DATABASE)
    advice = "read the reasons in the columns named; set them to NULL to have it tried again"
    return Finding("work", waiting or "nothing set aside", advice if waiting else "")


def broker(url: str) -> Finding:
    place = _place(url)
    try:
        # kombu has annotated some of its functions, not this one.
        with Connection(url, connect_timeout=_PATIENCE_S) as connection:  # type: ignore[no-untyped-call]
            connection.ensure_connection(max_retries=1, interval_start=0.1, timeout=_PATIENCE_S)
    except (OSError, OperationalError) as problem:
        return Finding("broker", f"{place}: {problem}", _NO_BROKER)
    return Finding("broker", place)


async def _ask(url: str, name: str, question: str) -> str | None:
    connection = await listen(url, name)
    try:
        answer: str | None = await connection.fetchval(question, timeout=_PATIENCE_S)
        return answer
    finally:
        await connection.close()


def _place(url: str) -> str:
    return make_url(url).render_as_string(hide_password=True)

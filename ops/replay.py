"""`vitals replay`: sends a file through the ingest as live traffic would come, at any speed."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import click

from ops.replaying import files, parcels, sender, target, times
from ops.replaying.delivery import Stopped, deliver
from ops.replaying.files import Shape, Unusable
from ops.replaying.pace import Pace, Progress
from ops.replaying.parcels import MINUTE, Parcel
from ops.replaying.sender import Sender, Unreachable
from ops.replaying.snapshots import Snapshots
from ops.replaying.table import Mapped, Table
from ops.replaying.times import Times

INTERRUPTED = 130


class Speed(click.ParamType[float]):
    """How much faster than the clock; `max`: as fast as it goes."""

    name = "speed"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        try:
            speed = float("inf") if value == "max" else float(value)
        except ValueError:
            speed = 0.0
        if not speed > 0:
            self.fail(f"{value!r} must be a number above 0, or max", param, ctx)
        return speed


class Zone(click.ParamType[ZoneInfo]):
    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ZoneInfo:
        try:
            return value if isinstance(value, ZoneInfo) else ZoneInfo(value)
        except (ZoneInfoNotFoundError, ValueError):
            self.fail(f"{value!r} must be an IANA time zone, such as America/Sao_Paulo", param, ctx)


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The options, as given."""

    shape: str | None
    speed: float
    as_of: str | None
    date: datetime | None
    zone: ZoneInfo
    from_: str | None
    until: str | None
    account: str | None
    account_column: str | None
    partner: str | None
    time: str | None
    value: str | None
    metric: str | None
    labels: tuple[str, ...]
    constants: tuple[str, ...]
    outcomes: tuple[str, ...]
    source: str | None
    url: str | None
    key: str | None


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--shape", type=click.Choice([str(shape) for shape in Shape]), help="Else told from the first line."
)
@click.option("--speed", type=Speed(), default="1", show_default=True, help="1, 60, 600 …, or max.")
@click.option("--as-of", metavar="now|TIME", help="Shift all times so that the last falls on this one.")
@click.option("--date", type=click.DateTime(["%Y-%m-%d"]), help="Of times of day; else yesterday in --zone.")
@click.option("--zone", type=Zone(), default="UTC", show_default=True, help="Of times that name none.")
@click.option("--from", "from_", metavar="TIME", help="Take only what is not before this; 2023 will do.")
@click.option("--until", metavar="TIME", help="Take only what is before this.")
@click.option("--account", metavar="EXTERNAL_ID", help="Whose points they are.")
@click.option("--account-column", metavar="COLUMN", help="Where each line says whose it is.")
@click.option("--partner", metavar="CODE", help="Whose status page it is.")
@click.option("--time", metavar="COLUMN", help="Of any CSV: where the time is.")
@click.option("--value", metavar="COLUMN", help="Where the value is; a line without one is left out.")
@click.option("--metric", metavar="NAME", help="What the values are, such as payments.count.")
@click.option("--label", "labels", multiple=True, metavar="KEY=COLUMN", help="A label; again for more.")
@click.option("--constant", "constants", multiple=True, metavar="KEY=VALUE", help="A label of every point.")
@click.option("--outcome", "outcomes", multiple=True, metavar="OLD=NEW", help="Our word for the file's.")
@click.option("--source", metavar="NAME", help="What sends; else the file's name. Sources add up.")
@target.options
@click.pass_context
def replay(context: click.Context, /, file: Path, **options: Any) -> None:
    """Send FILE through the ingest as live traffic would come.

    A file is one of three shapes, gzipped or not. OUTCOMES: a CSV of time, status and count, a line a
    minute and status. STATUSPAGE: JSON lines {observed_at, summary}, what was seen on a partner's status
    page. COLUMNS: any CSV, with --time, --value and --metric. A minute is sent when it is over. What is
    refused ends the replay, but for a snapshot, after which the next one is sent.
    """
    chosen = Choices(**options)
    url, key = target.resolve(chosen.url, chosen.key)
    pace = Pace(chosen.speed)
    try:
        what, found = _read(file, chosen, pace)
    except Unusable as error:
        raise click.ClickException(f"{file.name} {error}") from error
    progress = Progress(what)
    with sender.connect(url, key) as client:
        sending = Sender(client, say=progress.say)
        try:
            deliver(found, sending, pace, progress, past_refusals=what == "snapshots")
        except KeyboardInterrupt:
            progress.say(f"stopped: {progress}")
            context.exit(INTERRUPTED)
        except (Stopped, Unreachable, Unusable) as error:
            progress.say(str(progress))
            raise click.ClickException(str(error)) from error
    progress.say(str(progress))
    context.exit(1 if progress.refused else 0)


def _read(file: Path, chosen: Choices, pace: Pace) -> tuple[str, Iterator[Parcel]]:
    """What is sent, and the requests; raises Unusable and UsageError before the first."""
    shape = Shape(chosen.shape) if chosen.shape else _recognized(file, chosen)
    if shape is Shape.STATUSPAGE:
        return "snapshots", _snapshots(file, chosen)
    return "points", _points(file, chosen, shape, pace)


def _recognized(file: Path, chosen: Choices) -> Shape:
    if chosen.time or chosen.value or chosen.metric:
        return Shape.COLUMNS
    return files.recognized(file)


def _snapshots(file: Path, chosen: Choices) -> Iterator[Parcel]:
    if chosen.partner is None:
        raise click.UsageError("Give --partner: whose status page it is.")
    found = Snapshots(file, from_=_moment(chosen, "from_"), until=_moment(chosen, "until"))
    return found.parcels(chosen.partner, shift=_shift(chosen, found.span()[1]))


def _points(file: Path, chosen: Choices, shape: Shape, pace: Pace) -> Iterator[Parcel]:
    if (chosen.account is None) == (chosen.account_column is None):
        raise click.UsageError("Give --account, whose points they are, or --account-column.")
    yesterday = datetime.now(chosen.zone).date() - timedelta(days=1)
    read = Times(chosen.zone, date=chosen.date.date() if chosen.date else yesterday)
    table = Table.read(file, _mapped(file, chosen, shape), read)
    if chosen.date and not read.used_date:
        raise click.UsageError("--date is of times of day; the times of this file have dates.")
    if table.blank:
        click.echo(f"{table.blank} lines without a value are left out", err=True)
    written = table.points(
        source=chosen.source or f"replay {file.name}"[:200],
        shift=_shift(chosen, table.last(before=_moment(chosen, "until"))),
        from_=_moment(chosen, "from_"),
        until=_moment(chosen, "until"),
    )
    return parcels.packed(written, span=pace.span)


def _mapped(file: Path, chosen: Choices, shape: Shape) -> Mapped:
    labels = target.given_pairs(chosen.labels, "--label")
    if shape is Shape.OUTCOMES:
        columns = files.outcome_columns(files.header(file))
        if columns is None:
            raise Unusable("must name three columns: a time, a status and a count", line=1)
        time, labels["outcome"], value = columns
        metric = "payments.count"
    elif chosen.time and chosen.value and chosen.metric:
        time, value, metric = chosen.time, chosen.value, chosen.metric
    else:
        names = ", ".join(files.header(file))
        raise click.UsageError(f"Give --time, --value and --metric; the columns are {names}.")
    return Mapped(
        time=time,
        value=value,
        metric=metric,
        labels=labels,
        constant=target.given_pairs(chosen.constants, "--constant"),
        outcomes=target.given_pairs(chosen.outcomes, "--outcome"),
        account=chosen.account or "",
        account_column=chosen.account_column or "",
    )


def _moment(chosen: Choices, name: str) -> datetime | None:
    """The time that an option gives; `now` is one."""
    text: str | None = getattr(chosen, name)
    if text is None:
        return None
    if text == "now":
        return datetime.now(UTC)
    try:
        return times.instant(text, chosen.zone)
    except ValueError as error:
        raise click.UsageError(f"--{name.strip('_').replace('_', '-')}: {error}.") from error


def _shift(chosen: Choices, last: datetime) -> timedelta:
    """By how many whole minutes, so that points stay where they lie in their minutes."""
    as_of = _moment(chosen, "as_of")
    return timedelta() if as_of is None else (as_of - last) // MINUTE * MINUTE

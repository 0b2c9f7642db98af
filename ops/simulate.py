"""`vitals simulate`: payment telemetry of a simulated world with labelled incidents, as history and live."""

import json
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import msgspec
import yaml
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog import document
from domain.catalog import service as catalog
from domain.catalog.entries import Catalogue
from ops.operator import actor, transact
from ops.replay import INTERRUPTED, Speed
from ops.replaying import sender, target
from ops.replaying.delivery import Stopped, deliver
from ops.replaying.pace import Pace, Progress
from ops.replaying.parcels import MINUTE, Parcel
from ops.replaying.sender import Sender, Unreachable
from ops.replaying.simulated import State, World, minute_of
from ops.simulation import schedule
from ops.simulation.specification import Specification

_AHEAD = timedelta(days=30)
_AT_ONCE = Pace(float("inf"))


class Present(Pace):
    """A pace at which nothing is sent before it has happened."""

    def __init__(
        self,
        speed: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(speed, clock=clock, sleep=sleep)
        self.now = now

    def wait_for(self, due: datetime) -> None:
        super().wait_for(due)
        left_s = (due - self.now()).total_seconds()
        if left_s > 0:
            self._sleep(left_s)


@click.command()
@click.option("--seed", type=int, help="The same seed gives the same world, at any time.")
@click.option("--profile", type=click.Choice(["small", "default"]), default="default", show_default=True)
@click.option("--days", type=click.FloatRange(0, 80), default=30.0, show_default=True, help="Of history.")
@click.option(
    "--fine-days", type=click.FloatRange(0), help="Older history is sent by the hour. [default: all]"
)
@click.option("--live", is_flag=True, help="Go on with each minute as it passes, until Ctrl-C.")
@click.option("--speed", type=Speed(), default="max", show_default=True, help="Of minutes that are over.")
@click.option("--showcase", is_flag=True, help="An incident every three hours, the first one going on.")
@click.option("--state", type=click.Path(path_type=Path, dir_okay=False), help="Remembers what was sent.")
@click.option(
    "--labels", type=click.Path(path_type=Path, dir_okay=False), help="Where incidents are written."
)
@click.option("--no-catalog", is_flag=True, help="Its accounts and partners are there already.")
@target.options
@click.pass_context
def simulate(context: click.Context, /, **options: Any) -> None:
    """Send the payments of a simulated world: days of history, which is not judged, then live traffic.

    Its accounts, partners and services are put into the catalogue first (in the database of
    DATABASE_URL). --labels writes every incident, one JSON object a line. With --state a simulation that
    was stopped goes on where it left off: what it missed is sent, the last day of it as live traffic.
    """
    url, key = target.resolve(options["url"], options["key"])
    state = _state(options, now=minute_of(datetime.now(UTC)))
    world = World(state)
    if options["labels"]:
        write_labels(world, options["labels"])
    if not options["no_catalog"]:
        transact(lambda session: apply_catalogue(session, world.spec, at=datetime.now(UTC)))
    progress = Progress("points")
    patience_s = float("inf") if options["live"] else 60.0
    with sender.connect(url, key) as client:
        sending = Sender(client, patience_s=patience_s, say=progress.say)
        try:
            state = send_history(state, sending, progress, file=options["state"])
            if options["live"]:
                go_live(state, sending, progress, file=options["state"], speed=options["speed"])
        except KeyboardInterrupt:
            progress.say(f"stopped: {progress}")
            context.exit(INTERRUPTED)
        except (Stopped, Unreachable) as error:
            raise click.ClickException(str(error)) from error
    progress.say(str(progress))


def catalogue(spec: Specification) -> Catalogue:
    """The world's accounts, services, partners and dependencies."""
    return document.parse(yaml.safe_dump(spec.catalogue), name="the simulated world")


async def apply_catalogue(session: AsyncSession, spec: Specification, *, at: datetime) -> None:
    """Put them into the catalogue, in the operator's scope; idempotent."""
    await catalog.apply(session, catalogue(spec), by=actor(), at=at)


def send_history(state: State, sending: Sender, progress: Progress, *, file: Path | None) -> State:
    """Send the history unless the state says that it was sent; the state after it."""
    if state.sent_until is None:
        world = World(state)
        deliver(world.history(), sending, _AT_ONCE, progress)
        state = msgspec.structs.replace(state, sent_until=world.live_from)
        if file is not None:
            state.save(file)
    return state


def go_live(
    state: State,
    sending: Sender,
    progress: Progress,
    *,
    file: Path | None,
    speed: float,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Send what was missed, then every minute when it is over; ends only by an exception."""
    world, pace = World(state), Present(speed, sleep=sleep, now=now)
    deliver(world.gap(minute_of(now())), sending, _AT_ONCE, progress)
    from_ = world.live_start(minute_of(now()))
    parcels = world.live(now, from_=from_, span=pace.span if speed < float("inf") else None)
    deliver(_remembered(parcels, state, file), sending, pace, progress)


def _remembered(parcels: Iterable[Parcel], state: State, file: Path | None) -> Iterator[Parcel]:
    """Write down what was sent: the next parcel is asked for when one is acknowledged.

    The last minute may not be whole in it, and is sent again.
    """
    for parcel in parcels:
        yield parcel
        if file is not None:
            msgspec.structs.replace(state, sent_until=parcel.due - MINUTE).save(file)


def write_labels(world: World, file: Path) -> None:
    """All incidents from the beginning of the history until 30 days from its end, in time order."""
    start = world.live_from - timedelta(days=world.state.days)
    end = world.state.began_at + _AHEAD
    drawn = schedule.incidents(world.spec, world.state.seed, start=start, end=end)
    shown = [one for one in world.extra if one.start < end]
    with file.open("w") as written:
        for one in sorted([*drawn, *shown], key=lambda incident: incident.start):
            times = {"start": f"{one.start:%FT%TZ}", "end": f"{one.end:%FT%TZ}"}
            written.write(json.dumps(asdict(one) | times) + "\n")


def _state(options: dict[str, Any], *, now: datetime) -> State:
    """What was remembered, or a new simulation that begins now."""
    file: Path | None = options["state"]
    try:
        kept = State.load(file) if file is not None else None
    except ValueError as error:
        raise click.ClickException(f"{file} is not what a simulation remembers: {error}") from error
    if kept is not None:
        return kept
    if options["seed"] is None:
        raise click.UsageError("Give --seed, or a --state that was written before.")
    fine_days: float | None = options["fine_days"]
    state = State(
        profile=options["profile"],
        seed=options["seed"],
        began_at=now,
        days=options["days"],
        fine=None if fine_days is None else timedelta(days=fine_days),
        is_showcase=options["showcase"],
    )
    if file is not None:
        state.save(file)
    return state

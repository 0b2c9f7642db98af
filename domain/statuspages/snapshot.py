"""A Statuspage v2 `summary.json`: what of it is used, checked so that only a whole one is believed."""

import json
import math
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec

from domain.catalog.models import ComponentStatus
from domain.core.errors import InvalidInput
from domain.incidents.models import Impact, IncidentStatus

Instant = Annotated[datetime, msgspec.Meta(tz=True)]
E = TypeVar("E", ComponentStatus, IncidentStatus, Impact)
Text = Annotated[str, msgspec.Meta(min_length=1)]


class PageComponent(msgspec.Struct):
    """A part of the page; `group` ones are headings that repeat their parts' worst status."""

    id: Text
    name: str
    status: str
    group: bool = False


class PageUpdate(msgspec.Struct):
    id: Text
    status: str
    body: str
    created_at: Instant
    display_at: Instant | None = None
    affected_components: list[dict[str, Any]] | None = None


class PageIncident(msgspec.Struct):
    """An incident or a scheduled maintenance, with its updates."""

    id: Text
    name: str
    status: str
    impact: str
    created_at: Instant
    incident_updates: list[PageUpdate]
    shortlink: str | None = None
    started_at: Instant | None = None
    resolved_at: Instant | None = None
    scheduled_for: Instant | None = None
    scheduled_until: Instant | None = None

    @property
    def begun_at(self) -> datetime:
        return self.scheduled_for or self.started_at or self.created_at


class Page(msgspec.Struct):
    id: Text
    name: str


class Summary(msgspec.Struct):
    """What a page said at one time. Absence of an incident from it means something: it must be whole."""

    page: Page
    components: Annotated[list[PageComponent], msgspec.Meta(min_length=1)]
    incidents: list[PageIncident]
    scheduled_maintenances: list[PageIncident]

    @property
    def all(self) -> list[PageIncident]:
        return [*self.incidents, *self.scheduled_maintenances]

    @property
    def worst(self) -> ComponentStatus:
        """The worst status of any component."""
        statuses = [component_status(one.status) for one in self.components if not one.group]
        return max(statuses, key=lambda one: one.badness, default=ComponentStatus.OPERATIONAL)


def read(body: bytes) -> Summary:
    """The summary; InvalidInput, naming the place, where it is not one or holds an unknown status."""
    try:
        summary = msgspec.json.decode(body, type=Summary)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"This is not a Statuspage v2 summary.json: {error}.") from None
    _ = summary.worst
    for incident in summary.all:
        impact(incident.impact)
        for text in (incident.status, *(update.status for update in incident.incident_updates)):
            status(text)
    return summary


def stored(body: bytes) -> dict[str, Any]:
    """A summary as it is kept: without what Postgres takes in no text and no number. InvalidInput."""
    try:
        kept: dict[str, Any] = _kept(json.loads(body))
    except ValueError as error:  # whole numbers of thousands of digits
        raise InvalidInput(f"This is not a Statuspage v2 summary.json: {error}.") from None
    return kept


def _kept(value: Any) -> Any:
    if isinstance(value, dict):
        return {_kept(key): _kept(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_kept(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.replace("\0", "") if isinstance(value, str) else value


def component_status(text: str) -> ComponentStatus:
    return _known(ComponentStatus, text, "component status")


def status(text: str) -> IncidentStatus:
    return _known(IncidentStatus, text, "incident status")


def impact(text: str) -> Impact:
    return _known(Impact, text, "impact")


def _known(kind: type[E], text: str, what: str) -> E:
    try:
        return kind[text.upper()]
    except KeyError:
        names = ", ".join(one.lower() for one in kind.__members__)
        raise InvalidInput(f"{text[:60]!r} is no {what}; they are {names}.") from None

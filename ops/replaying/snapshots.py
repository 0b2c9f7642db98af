"""Reads what was seen on a status page, line by line as `{observed_at, summary}`, and sends each summary.

Nothing but its times is changed in a summary, and those only where the replay shifts them.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import quote

import msgspec

from ops.replaying import files
from ops.replaying.files import Unusable
from ops.replaying.parcels import Parcel

# A JSON string that is a time and nothing else.
_TIME = re.compile(rb'"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d))"')


class _Line(msgspec.Struct):
    observed_at: Annotated[datetime, msgspec.Meta(tz=True)]
    summary: msgspec.Raw


class Snapshots:
    """Those of a file that were observed in [from_, until)."""

    def __init__(self, path: Path, *, from_: datetime | None = None, until: datetime | None = None) -> None:
        self._path, self._from, self._until = path, from_, until

    def span(self) -> tuple[datetime, datetime]:
        """When the first and the last were observed; raises Unusable, also where they are not in order."""
        first: datetime | None = None
        last: datetime | None = None
        for number, line in self._lines():
            if last is not None and line.observed_at < last:
                raise Unusable("was observed before the line above: sort by observed_at", line=number)
            first, last = first or line.observed_at, line.observed_at
        if first is None or last is None:
            raise Unusable("has no snapshot in this range")
        return first, last

    def parcels(self, partner: str, *, shift: timedelta = timedelta()) -> Iterator[Parcel]:
        """A request for each snapshot, due when it was observed."""
        path = f"/v1/partners/{quote(partner, safe='')}/statuspage"
        for number, line in self._lines():
            at = line.observed_at.astimezone(UTC) + shift
            body = bytes(line.summary)
            body = _shifted(body, shift) if shift else body
            yield Parcel(at, path, body, 1, (number,), {"observed_at": at.isoformat().replace("+00:00", "Z")})

    def _lines(self) -> Iterator[tuple[int, _Line]]:
        decoder = msgspec.json.Decoder(_Line)
        with files.opened(self._path) as file:
            for number, text in enumerate(file, 1):
                if text.isspace():
                    continue
                try:
                    line = decoder.decode(text)
                except msgspec.DecodeError as error:
                    raise Unusable(f"is not {{observed_at, summary}}: {error}", line=number) from error
                if self._holds(line.observed_at):
                    yield number, line

    def _holds(self, at: datetime) -> bool:
        return (self._from is None or at >= self._from) and (self._until is None or at < self._until)


def _shifted(body: bytes, shift: timedelta) -> bytes:
    """The summary with all of its times moved."""

    def moved(found: re.Match[bytes]) -> bytes:
        text = found[1].decode()
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return found[0]
        return f'"{(at + shift).astimezone(UTC).isoformat().replace("+00:00", "Z")}"'.encode()

    return _TIME.sub(moved, body)

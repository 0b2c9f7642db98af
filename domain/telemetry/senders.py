"""Who may write to which accounts, and under which number each sender is known as a source.

Both are asked for each scope: one principal's accounts are not another's, and accounts change hands.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from domain.catalog import queries as catalog
from domain.core.db import Database
from domain.telemetry import series
from domain.telemetry.series import MOST_SOURCES

ASKED_AGAIN_AFTER = timedelta(seconds=30)
"""So long a sender may still write to an account that was taken from it."""
_REMEMBERED = 200_000
_NEVER = datetime.min.replace(tzinfo=UTC)
_UNKNOWN = 0, _NEVER


class Sender(NamedTuple):
    """Whose rows are written (`scope`), and with which key: two keys of one account are two senders."""

    scope: str
    subject: str


class Senders:
    """What one process found out lately. Accounts have an index, from 0; their external ids never change."""

    def __init__(self, db: Database, *, most_sources: int = MOST_SOURCES) -> None:
        self._db, self.most_sources = db, most_sources
        self._index: dict[str, int] = {}
        self._names: list[str] = []
        self.text = 0  # characters of the names
        self._ids: list[UUID | None] = []
        self._proven: dict[tuple[str, int], datetime] = {}
        self._sources: dict[tuple[str, str], tuple[int, datetime]] = {}

    def __len__(self) -> int:
        """How many names were asked for, whether there are such accounts or not."""
        return len(self._names)

    def index(self, account: str) -> int:
        """The index of the account with that external id, whether there is one or not."""
        found = self._index.setdefault(account, len(self._index))
        if found == len(self._names):
            self._names.append(account)
            self._ids.append(None)
            self.text += len(account)
        return found

    def account_id(self, index: int) -> UUID:
        """The id of an account that someone was found to be allowed to write to."""
        found = self._ids[index]
        assert found is not None
        return found

    async def permitted(self, accounts: Sequence[int], scope: str, *, at: datetime) -> set[int]:
        """Those of the accounts, by index, that the scope may write to."""
        since = at - ASKED_AGAIN_AFTER
        found = {index for index in accounts if self._proven.get((scope, index), _NEVER) > since}
        if len(found) < len(accounts):
            missing = [self._names[index] for index in accounts if index not in found]
            found |= await self._prove(missing, scope, at=at)
        return found

    async def _prove(self, names: Sequence[str], scope: str, *, at: datetime) -> set[int]:
        async with self._db.read(scope) as session:
            rows = await catalog.accounts_by_external_id(session, sorted(names))
        if len(self._proven) + len(rows) > _REMEMBERED:
            self._proven.clear()
        found = {self.index(name): row.id for name, row in rows.items()}
        for index, account_id in found.items():
            self._ids[index] = account_id
            self._proven[scope, index] = at
        return set(found)

    async def sources(self, names: Sequence[str], sender: Sender, *, at: datetime) -> list[int]:
        """The number of each source that the sender says it is, registering new ones; 0 beyond the most."""
        keys = [(sender.scope, f"{sender.subject}/{name}") for name in names]
        since = at - ASKED_AGAIN_AFTER
        found = {key: self._sources.get(key, _UNKNOWN) for key in keys}
        if new := [key[1] for key, (number, asked) in found.items() if not number and asked <= since]:
            found |= await self._register(new, sender.scope, at=at)
        return [found[key][0] for key in keys]

    async def _register(
        self, names: Sequence[str], scope: str, *, at: datetime
    ) -> dict[tuple[str, str], tuple[int, datetime]]:
        async with self._db.transaction(scope) as session:
            numbers = await series.sources(session, sorted(names), scope=scope, at=at, most=self.most_sources)
        # Remembered only once committed.
        found = {(scope, name): (numbers.get(name, 0), at) for name in names}
        if len(self._sources) + len(found) > _REMEMBERED:
            self._sources.clear()
        self._sources.update(found)
        return found

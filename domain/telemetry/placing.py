"""Where points belong: slots become accounts and the numbers of their series, names become sources.

What was found once is from then on arithmetic on arrays by slot.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from domain.core.db import Database
from domain.telemetry import series, sketches
from domain.telemetry.columns import Columns
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import Flaw
from domain.telemetry.senders import ASKED_AGAIN_AFTER, Sender, Senders
from domain.telemetry.series import MOST_SERIES, MOST_SOURCES, Measured
from domain.telemetry.slots import Identity, Slots

NO_ACCOUNT: Flaw = ("account", "is no account that this key can write to")
_MOST_SLOTS, _MOST_TEXT = 1_000_000, 1 << 28
_REFUSED = -1
_NONE = np.full(1, -1, np.int32)
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
Numbers = NDArray[np.int32]


@dataclass(frozen=True)
class Placed:
    """The points that have a place, in their order, and why the other rows have none."""

    columns: Columns
    refused: Mapping[int, Flaw]


class Registry:
    """What was learnt of a generation of slots; once it `is_full`, later requests are given to a new one."""

    def __init__(
        self, db: Database, *, most_series: int = MOST_SERIES, most_sources: int = MOST_SOURCES
    ) -> None:
        self._db, self._most_series = db, most_series
        self._senders = Senders(db, most_sources=most_sources)
        self.slots = Slots()
        self._seen, self._text = 0, 0  # slots looked at, and the characters of their identities
        # By slot: the index of its account, and its number within it: 0 is unknown.
        self._account, self._number = np.zeros(1024, np.int32), np.zeros(1024, np.int32)
        # By index of an account: when series of it were refused, and the slots of its numbers.
        self._refused_at: dict[int, datetime] = {}
        self._slots_of: dict[int, Numbers] = {}

    @property
    def is_full(self) -> bool:
        names, text = max(len(self.slots), len(self._senders)), self._text + self._senders.text
        return names > _MOST_SLOTS or text > _MOST_TEXT

    async def place(self, decoded: Decoded, sender: Sender, *, at: datetime) -> Placed:
        """Find account, number and source of every row, registering what is new.

        Refused are rows of accounts that the sender's scope does not know, and of series and sources
        beyond those that an account and a scope may have.
        """
        number = await self._numbers(decoded.slot, sender, at=at)
        sources = await self._sources(decoded, number > 0, sender, at=at)
        fits = (number > 0) & (sources[decoded.source] > 0)
        if fits.all():
            return Placed(self._columns(decoded, number, sources), {})
        refused = {row: self._flaw(decoded, row, int(number[row])) for row in np.flatnonzero(~fits).tolist()}
        rows = np.flatnonzero(fits)
        return Placed(self._columns(_take(decoded, rows), number[rows], sources), refused)

    async def register(
        self, identities: Sequence[Identity], sender: Sender, *, at: datetime
    ) -> list[int | Flaw]:
        """The number of each series, registering what is new, or why it has none."""
        slot = np.array([self.slots.slot(*one[:3], sent_as=one.kind) for one in identities], np.int32)
        numbers = await self._numbers(slot, sender, at=at)
        pairs = zip(slot.tolist(), numbers.tolist(), strict=True)
        return [number if number > 0 else self._series_flaw(slot, number) for slot, number in pairs]

    async def load(self, wanted: Sequence[tuple[str, Numbers]], sender: Sender, *, at: datetime) -> set[str]:
        """Find the slots of accounts' numbered series; the accounts that the sender cannot write to."""
        indexes = {name: self._senders.index(name) for name, _ in wanted}
        permitted = await self._senders.permitted(list(indexes.values()), sender.scope, at=at)
        missing = {
            (name, number)
            for name, numbers in wanted
            if indexes[name] in permitted
            for number in numbers[self.slots_of(name, numbers) < 0].tolist()
        }
        if missing:
            await self._load(missing, sender.scope)
        return {name for name, index in indexes.items() if index not in permitted}

    def slots_of(self, account: str, numbers: Numbers) -> Numbers:
        """The slots of an account's numbered series, as far as they were loaded; -1 for others."""
        known = self._slots_of.get(self._senders.index(account), _NONE)
        is_inside = numbers < len(known)
        return np.where(is_inside, known[np.where(is_inside, numbers, 0)], np.int32(-1))

    async def _load(self, wanted: Collection[tuple[str, int]], scope: str) -> None:
        ids = {name: self._senders.account_id(self._senders.index(name)) for name, _ in wanted}
        names = {account_id: name for name, account_id in ids.items()}
        async with self._db.read(scope) as session:
            rows = await series.numbered(session, [(ids[name], number) for name, number in wanted])
        found: dict[str, dict[int, int]] = defaultdict(dict)
        for number, one in rows:
            name = names[one.account_id]
            found[name][number] = self.slots.slot(name, one.metric, one.labels, sent_as=one.kind)
        self._see_slots()
        for name, slots in found.items():
            self._learn(self._senders.index(name), slots)

    def _learn(self, account: int, slots: Mapping[int, int]) -> None:
        """Remember the slots of numbers; the table is as long as the highest number that there is."""
        known = self._slots_of.get(account, _NONE)
        grown = np.full(max(len(known), max(slots) + 1), -1, np.int32)
        grown[: len(known)] = known
        grown[list(slots)] = list(slots.values())
        self._slots_of[account] = grown
        self._number[list(slots.values())] = list(slots)

    async def _numbers(self, slot: Numbers, sender: Sender, *, at: datetime) -> Numbers:
        """The number of each slot; 0 where its account is not the sender's, _REFUSED where it is full."""
        self._see_slots()
        account = self._account[slot]
        used = _distinct(account).tolist()
        permitted = await self._senders.permitted(used, sender.scope, at=at)
        is_open = np.full(len(slot), True)
        if len(permitted) < len(used):
            is_open = np.isin(account, list(permitted))
        if (self._number[slot[is_open]] <= 0).any():
            await self._register(slot[is_open], sender.scope, at=at)
        number = self._number[slot]
        # Meanwhile another request may have forgotten a refusal, so as to ask again.
        number[number == 0] = _REFUSED
        number[~is_open] = 0
        return number

    async def _register(self, slot: Numbers, scope: str, *, at: datetime) -> None:
        """Give numbers to slots that have none; one that was refused is not asked for again at once."""
        self._forget_refusals(at=at)
        unknown = np.unique(slot[self._number[slot] == 0]).tolist()
        if not unknown:
            return
        wanted = {self._measured(one): one for one in unknown}
        async with self._db.transaction(scope) as session:
            found = await series.numbers(session, wanted, at=at, most=self._most_series)
        # Remembered only once committed.
        for one, index in wanted.items():
            self._number[index] = found.get(one, _REFUSED)
            if one not in found:
                self._refused_at[int(self._account[index])] = at

    def _measured(self, slot: int) -> Measured:
        identity = self.slots.identities[slot]
        account_id = self._senders.account_id(int(self._account[slot]))
        return Measured(account_id, identity.metric, identity.labels, identity.kind)

    def _forget_refusals(self, *, at: datetime) -> None:
        for index, since in list(self._refused_at.items()):
            if at - since >= ASKED_AGAIN_AFTER:
                del self._refused_at[index]
                self._number[(self._account == index) & (self._number == _REFUSED)] = 0

    async def _sources(self, decoded: Decoded, is_sent: Mask, sender: Sender, *, at: datetime) -> Numbers:
        """The number of each of the `sources`; 0 for those beyond the most, and where none `is_sent`."""
        used = _distinct(decoded.source[is_sent]).tolist()
        numbers = np.zeros(len(decoded.sources), np.int32)
        numbers[used] = await self._senders.sources([decoded.sources[one] for one in used], sender, at=at)
        return numbers

    def _columns(self, decoded: Decoded, number: Numbers, sources: Numbers) -> Columns:
        accounts, account = _indexed(self._account[decoded.slot])
        used, source = _indexed(decoded.source)
        return Columns(
            accounts=tuple(self._senders.account_id(index) for index in accounts.tolist()),
            sources=tuple(sources[used].tolist()),
            account=account,
            source=source,
            number=number,
            at=decoded.at,
            value=decoded.value,
            count=decoded.count,
            mode=decoded.mode,
            start=decoded.start,
            time=decoded.time,
            sketches=decoded.sketches,
        )

    def _flaw(self, decoded: Decoded, row: int, number: int) -> Flaw:
        if number <= 0:
            return self._series_flaw(int(decoded.slot[row]), number)
        most = self._senders.most_sources
        name = decoded.sources[decoded.source[row]]
        return (
            "source",
            f"is one too many: the sender has {most} sources, the most it may have, without {name}",
        )

    def _series_flaw(self, slot: int, number: int) -> Flaw:
        account, metric, *_ = self.slots.identities[slot]
        if number != _REFUSED:
            return NO_ACCOUNT
        most = f"the account {account} has {self._most_series} series, the most it may have"
        return "metric", f"is a series too many: {most}, and this one of {metric} is new"

    def _see_slots(self) -> None:
        """Take in the slots that decoders have made since."""
        new = self.slots.identities[self._seen :]
        if not new:
            return
        self._seen += len(new)
        if self._seen > len(self._account):
            size = 2 * self._seen
            self._account, self._number = _grown(self._account, size), _grown(self._number, size)
        self._account[self._seen - len(new) : self._seen] = [self._senders.index(one.account) for one in new]
        self._text += sum(_length(one) for one in new)


def _distinct(indexes: Numbers) -> Rows:
    """The different ones of small numbers, in order."""
    return np.flatnonzero(np.bincount(indexes))


def _indexed(indexes: Numbers) -> tuple[Rows, Numbers]:
    """The different ones of small numbers, and the place of each number among them."""
    distinct = _distinct(indexes)
    place = np.zeros(distinct[-1] + 1 if len(distinct) else 0, np.int32)
    place[distinct] = np.arange(len(distinct))
    return distinct, place[indexes]


def _grown(values: Numbers, size: int) -> Numbers:
    grown = np.zeros(size, values.dtype)
    grown[: len(values)] = values
    return grown


def _length(identity: Identity) -> int:
    labels = sum(len(key) + len(value) for key, value in identity.labels)
    return len(identity.account) + len(identity.metric) + labels


def _take(decoded: Decoded, rows: Rows) -> Decoded:
    """Those rows."""
    parts = {field.name: getattr(decoded, field.name) for field in fields(decoded)}
    rowed = {name: part[rows] for name, part in parts.items() if isinstance(part, np.ndarray)}
    return Decoded(**parts | rowed | {"sketches": sketches.take(decoded.sketches, rows)})

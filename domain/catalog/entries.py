"""What a catalogue says, entry by entry, and what makes one unfit; entries refer by external id or code."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cache
from zoneinfo import available_timezones

from domain.catalog.codes import COUNTRIES, CURRENCIES
from domain.catalog.models import PartnerKind
from domain.core.errors import InvalidInput
from domain.core.texts import text_flaw

Path = tuple[str, ...]
Flaw = tuple[str, str]

_CATEGORY = re.compile(r"[0-9]{4}")
_URL = re.compile(r"https?://[^\s/]+(/\S*)?")
_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class AccountEntry:
    external_id: str
    name: str
    country: str
    currency: str
    time_zone: str
    merchant_category_code: str | None = None
    parent: str | None = None

    @property
    def key(self) -> str:
        return self.external_id

    def flaws(self) -> Iterator[Flaw]:
        yield from _texts(external_id=self.external_id, name=self.name, parent=self.parent)
        if self.country not in COUNTRIES:
            yield "country", "must be an ISO 3166-1 code of two letters, such as BR"
        if self.currency not in CURRENCIES:
            yield "currency", "must be an ISO 4217 code, such as BRL"
        if self.time_zone not in _time_zones():
            yield "time_zone", "must be an IANA time zone, such as America/Sao_Paulo"
        code = self.merchant_category_code
        if code is not None and not _CATEGORY.fullmatch(code):
            yield "merchant_category_code", "must be four digits (ISO 18245), such as 5411"


@dataclass(frozen=True, kw_only=True)
class ServiceEntry:
    code: str
    name: str
    description: str | None = None
    group: str | None = None

    @property
    def key(self) -> str:
        return self.code

    def flaws(self) -> Iterator[Flaw]:
        yield from _texts(code=self.code, name=self.name, group=self.group)
        if self.description is not None and (flaw := text_flaw(self.description, longest=2000)):
            yield "description", flaw


@dataclass(frozen=True, kw_only=True)
class PartnerEntry:
    """`regions` are countries; none: everywhere."""

    code: str
    name: str
    kind: PartnerKind
    regions: Sequence[str] = ()
    status_page_url: str | None = None

    @property
    def key(self) -> str:
        return self.code

    def flaws(self) -> Iterator[Flaw]:
        yield from _texts(code=self.code, name=self.name)
        if unknown := [region for region in self.regions if region not in COUNTRIES]:
            yield "regions", f"must be ISO 3166-1 codes of two letters, which {unknown[0]!r:.40} is not"
        if self.status_page_url is not None and not _URL.fullmatch(self.status_page_url):
            yield "status_page_url", "must be an http or https address"


@dataclass(frozen=True, kw_only=True)
class DependencyEntry:
    """The account's traffic runs through a service or a partner. Without a share, one that is known stays."""

    account: str
    service: str | None = None
    partner: str | None = None
    traffic_share: float | None = None

    @property
    def key(self) -> str:
        component = f"partner {self.partner}" if self.service is None else f"service {self.service}"
        return f"{self.account} on {component}"

    def flaws(self) -> Iterator[Flaw]:
        yield from _texts(account=self.account, service=self.service, partner=self.partner)
        if (self.service is None) == (self.partner is None):
            yield "service", "or partner must be given, and not both"
        if self.traffic_share is not None and not 0 <= self.traffic_share <= 1:
            yield "traffic_share", "must be from 0 to 1"


Entry = AccountEntry | ServiceEntry | PartnerEntry | DependencyEntry
KINDS: Mapping[str, type[Entry]] = {
    "accounts": AccountEntry,
    "services": ServiceEntry,
    "partners": PartnerEntry,
    "dependencies": DependencyEntry,
}


def field_names(kind: type[Entry]) -> list[str]:
    return [one.name for one in fields(kind)]


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Entries of each kind. `places` says where an entry was read, by kind and index."""

    accounts: Sequence[AccountEntry] = field(default_factory=list)
    services: Sequence[ServiceEntry] = field(default_factory=list)
    partners: Sequence[PartnerEntry] = field(default_factory=list)
    dependencies: Sequence[DependencyEntry] = field(default_factory=list)
    places: Mapping[Path, str] = field(default_factory=dict)

    def entries(self) -> Iterator[tuple[Path, Entry]]:
        """Every entry with its path, such as `("accounts", "0")`."""
        for kind in KINDS:
            for index, entry in enumerate(getattr(self, kind)):
                yield (kind, str(index)), entry


@dataclass(frozen=True)
class Problem:
    """What is wrong with the value at `path`; `place` is the file and line it was read from, where it was."""

    path: Path
    message: str
    place: str = ""

    def __str__(self) -> str:
        value = "".join(f"[{part}]" if part.isdecimal() else f".{part}" for part in self.path).lstrip(".")
        said = " ".join(filter(None, (value, self.message)))
        return f"{self.place}: {said}" if self.place else said


class CatalogueRejected(InvalidInput):
    """A catalogue of which nothing was applied; `problems` are all that is wrong with it."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        lines = [str(problem) for problem in problems[:_SHOWN]]
        if len(problems) > _SHOWN:
            lines.append(f"and {len(problems) - _SHOWN} more")
        super().__init__("\n".join(lines), path=problems[0].path)
        self.problems = tuple(problems)


def problems(catalogue: Catalogue) -> Iterator[Problem]:
    """What is wrong with the entries by themselves: unfit values, and what is said twice."""
    first: dict[tuple[str, str], Path] = {}
    for path, entry in catalogue.entries():
        place = catalogue.places.get(path, "")
        for name, message in entry.flaws():
            yield Problem((*path, name), message, place)
        earlier = first.setdefault((path[0], entry.key), path)
        if earlier is not path:
            yield Problem(path, f"says again what {earlier[0]}[{earlier[1]}] says: {entry.key}", place)


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones())


def _texts(**texts: str | None) -> Iterator[Flaw]:
    for name, text in texts.items():
        if text is not None and (flaw := text_flaw(text)):
            yield name, flaw

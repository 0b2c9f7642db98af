"""The versioned specification of the simulated worlds: effect sizes, volumes, noise and the catalogue.

Who exists, and in what cells an account sells, depends on the specification alone, never on the seed.
"""

import itertools
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import yaml

_FILE = Path(__file__).with_name("specification.yaml")


@dataclass(frozen=True)
class Merchant:
    """An account of the simulated world; `ticket_minor` is its mean payment in minor units."""

    id: str
    name: str
    country: str
    currency: str
    time_zone: str
    mcc: str
    attempts_per_day: float
    ticket_minor: float
    parent: str | None = None


@dataclass(frozen=True)
class Cell:
    """One combination of labels in which an account sells; `share` of the account's attempts."""

    account: Merchant
    partner: str
    method: str
    issuer: str
    country: str
    share: float

    @property
    def labels(self) -> dict[str, str]:
        return {
            "partner": self.partner,
            "method": self.method,
            "issuer": self.issuer,
            "country": self.country,
        }

    def name_of(self, kind: str) -> str:
        """Its partner, method, issuer, country, account or world."""
        return {**self.labels, "account": self.account.id, "world": "world"}[kind]

    def has(self, where: Mapping[str, str]) -> bool:
        """Whether every label of `where` (`account` among them) is this cell's."""
        return all(self.name_of(name) == value for name, value in where.items())


@dataclass(frozen=True)
class Specification:
    """One world, and the effects common to all worlds (`effects`: the file without its worlds)."""

    version: int
    effects: dict[str, Any]
    world: dict[str, Any]

    @cached_property
    def accounts(self) -> list[Merchant]:
        return [Merchant(**one) for one in self.world["accounts"]]

    @cached_property
    def cells(self) -> list[Cell]:
        """Account by account; within one, those with the largest shares first."""
        return [cell for account in self.accounts for cell in self._cells_of(account)]

    @property
    def catalogue(self) -> dict[str, list[dict[str, Any]]]:
        """Accounts (parents first), services, partners and dependencies, by external ids and codes."""
        group = Merchant(**self.world["group"], attempts_per_day=0, ticket_minor=0)
        return {
            "accounts": [_as_account(one) for one in (group, *self.accounts)],
            "services": [_without(one, "traffic_share") for one in self.effects["services"]],
            "partners": [_without(one, "weight") for one in self.world["partners"]],
            "dependencies": [d for account in self.accounts for d in self._dependencies(account)],
        }

    def _cells_of(self, account: Merchant) -> list[Cell]:
        rng = named_rng("cells", account.id)
        deviation = self.effects["volume"]["cell_deviation"]
        weighed = [
            (weight * rng.lognormal(0, deviation), labels) for labels, weight in self._combinations(account)
        ]
        weighed.sort(key=lambda one: -one[0])
        kept = weighed[: self.world["cells_per_account"]]
        total = sum(weight for weight, _ in kept)
        return [Cell(account, *labels, share=weight / total) for weight, labels in kept]

    def _combinations(self, account: Merchant) -> list[tuple[tuple[str, str, str, str], float]]:
        """((partner, method, issuer, country), weight), in the order of the file."""
        countries = self.world["countries"]
        abroad = sum(c["weight"] for name, c in countries.items() if name != account.country)
        home = self.world["home_share"]
        found = []
        for partner, (method, heft), (name, country) in itertools.product(
            self.world["partners"], self.world["methods"].items(), countries.items()
        ):
            if name not in partner["regions"]:
                continue
            there = home if name == account.country else (1 - home) * country["weight"] / abroad
            banks = country["issuers"]
            found += [
                (
                    (partner["code"], method, issuer, name),
                    partner["weight"] * heft * there * weight / sum(banks.values()),
                )
                for issuer, weight in banks.items()
            ]
        return found

    def _dependencies(self, account: Merchant) -> list[dict[str, Any]]:
        shares: dict[str, float] = {}
        for cell in self.cells:
            if cell.account is account:
                shares[cell.partner] = shares.get(cell.partner, 0.0) + cell.share
        partners = [
            {"account": account.id, "partner": code, "traffic_share": round(share, 4)}
            for code, share in shares.items()
        ]
        services = [
            {"account": account.id, "service": s["code"], "traffic_share": s["traffic_share"]}
            for s in self.effects["services"]
        ]
        return partners + services


def load(world: str = "default", *, path: Path = _FILE) -> Specification:
    """The world of that name; an unknown name is a ValueError that lists the known ones."""
    content = yaml.safe_load(path.read_text())
    worlds = content.pop("worlds")
    if world not in worlds:
        raise ValueError(f"no world {world!r} in the specification; it has {', '.join(worlds)}")
    return Specification(version=content["version"], effects=content, world=worlds[world])


def named_rng(*names: str | int) -> np.random.Generator:
    """A generator that depends on these names alone."""
    return np.random.default_rng([zlib.crc32(str(name).encode()) for name in names])


def _as_account(merchant: Merchant) -> dict[str, Any]:
    return {
        "external_id": merchant.id,
        "name": merchant.name,
        "country": merchant.country,
        "currency": merchant.currency,
        "time_zone": merchant.time_zone,
        "merchant_category_code": merchant.mcc,
        "parent": merchant.parent,
    }


def _without(one: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != name}

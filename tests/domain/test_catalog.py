"""A catalogue is applied as a whole or not at all, and again without effect."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from domain.access.models import AuditEntry
from domain.catalog import document, queries, service
from domain.catalog.entries import (
    AccountEntry,
    Catalogue,
    CatalogueRejected,
    DependencyEntry,
    PartnerEntry,
    ServiceEntry,
)
from domain.catalog.models import Account, ComponentStatus, Dependency, PartnerKind, Service
from domain.catalog.service import Change, Outcome
from domain.core.db import Database
from tests import make
from tests.make import NOON

DOCUMENT = """\
accounts:
  - {external_id: group, name: The group, country: NO, currency: NOK, time_zone: Europe/Oslo}
  - external_id: shop
    name: 1234
    country: BR
    currency: BRL
    time_zone: America/Sao_Paulo
    merchant_category_code: 0742
    parent: group
services:
  - {code: checkout, name: Checkout, group: Payments, description: ~}
partners:
  - {code: acquirer, name: Acquirer, kind: acquirer, regions: [BR, NO], status_page_url: "https://status.example/"}
dependencies:
  - {account: shop, partner: acquirer, traffic_share: 0.25}
  - {account: shop, service: checkout}
"""
CSV = {
    "accounts.csv": """\
external_id,name,country,currency,time_zone,merchant_category_code,parent
group,The group,NO,NOK,Europe/Oslo,,
shop,1234,BR,BRL,America/Sao_Paulo,0742,group
""",
    "services.csv": "code,name,group\ncheckout,Checkout,Payments\n",
    "partners.csv": """\
\ufeffcode,name,kind,regions,status_page_url
acquirer,Acquirer,ACQUIRER,BR; NO,https://status.example/
""",
    "dependencies.csv": """\
account,service,partner,traffic_share
shop,,acquirer,0.25

shop,checkout,,
""",
}
WHOLE = Catalogue(
    accounts=[
        AccountEntry(
            external_id="group", name="The group", country="NO", currency="NOK", time_zone="Europe/Oslo"
        ),
        AccountEntry(
            external_id="shop",
            name="1234",
            country="BR",
            currency="BRL",
            time_zone="America/Sao_Paulo",
            merchant_category_code="0742",
            parent="group",
        ),
    ],
    services=[ServiceEntry(code="checkout", name="Checkout", group="Payments")],
    partners=[
        PartnerEntry(
            code="acquirer",
            name="Acquirer",
            kind=PartnerKind.ACQUIRER,
            regions=("BR", "NO"),
            status_page_url="https://status.example/",
        )
    ],
    dependencies=[
        DependencyEntry(account="shop", partner="acquirer", traffic_share=0.25),
        DependencyEntry(account="shop", service="checkout"),
    ],
)


def entry(external_id: str, *, parent: str | None = None, **fields: Any) -> AccountEntry:
    return replace(WHOLE.accounts[0], external_id=external_id, parent=parent, **fields)


async def applied(db: Database, catalogue: Catalogue) -> list[Change]:
    async with db.transaction("operator") as session:
        return await service.apply(session, catalogue, by="test", at=NOON)


async def standing(db: Database) -> Catalogue:
    async with db.read("operator") as session:
        return await queries.catalogue(session)


async def below(db: Database, external_id: str) -> set[str]:
    """The external ids that row security shows to an account."""
    async with db.read("operator") as session:
        account = (await queries.accounts_by_external_id(session, [external_id]))[external_id]
    async with db.read(f"account:{account.id}") as session:
        return set((await session.scalars(select(Account.external_id))).all())


def said(catalogue: Catalogue) -> Catalogue:
    """Without the places that it was read from."""
    return replace(catalogue, places={})


def test_a_yaml_document_is_read_as_it_is_written() -> None:
    assert said(document.parse(DOCUMENT)) == WHOLE


def test_csv_files_say_the_same_as_a_yaml_document(tmp_path: Path) -> None:
    for name, text in CSV.items():
        (tmp_path / name).write_text(text, encoding="utf-8")

    assert said(document.read([tmp_path])) == WHOLE


def test_what_is_rendered_is_read_back() -> None:
    assert said(document.parse(document.render(WHOLE))) == WHOLE


def test_an_empty_document_says_nothing() -> None:
    assert document.parse("") == document.parse("accounts:\n") == Catalogue()


async def test_a_catalogue_is_created_and_again_changes_nothing(db: Database) -> None:
    first = await applied(db, WHOLE)
    again = await applied(db, await standing(db))

    assert [(change.kind, change.key) for change in first] == [
        ("accounts", "group"),
        ("accounts", "shop"),
        ("services", "checkout"),
        ("partners", "acquirer"),
        ("dependencies", "shop on partner acquirer"),
        ("dependencies", "shop on service checkout"),
    ]
    assert {change.outcome for change in first} == {Outcome.CREATED}
    assert {change.outcome for change in again} == {Outcome.UNCHANGED}
    assert (await standing(db)).dependencies[1].traffic_share == 1.0
    async with db.read("operator") as session:
        acts = await session.scalars(select(AuditEntry.action))
        assert acts.all() == ["catalog.applied", "catalog.applied"]


async def test_only_what_differs_is_updated(db: Database) -> None:
    await applied(db, WHOLE)
    renamed = replace(WHOLE.accounts[1], name="The shop", merchant_category_code=None)
    share = DependencyEntry(account="shop", service="checkout", traffic_share=0.5)

    changes = await applied(db, replace(WHOLE, accounts=[WHOLE.accounts[0], renamed], dependencies=[share]))

    assert [change for change in changes if change.outcome is not Outcome.UNCHANGED] == [
        Change("accounts", "shop", Outcome.UPDATED, ("name", "merchant_category_code")),
        Change("dependencies", "shop on service checkout", Outcome.UPDATED, ("traffic_share",)),
    ]
    now = await standing(db)
    assert now.accounts[1] == renamed
    assert [one.traffic_share for one in now.dependencies] == [0.25, 0.5]


async def test_a_share_that_is_not_given_stays_as_it_is_known(db: Database) -> None:
    await applied(db, WHOLE)

    changes = await applied(db, Catalogue(dependencies=[DependencyEntry(account="shop", partner="acquirer")]))

    assert [change.outcome for change in changes] == [Outcome.UNCHANGED]
    assert (await standing(db)).dependencies[0].traffic_share == 0.25


async def test_a_status_is_left_alone(db: Database) -> None:
    await applied(db, WHOLE)
    async with db.transaction("operator") as session:
        [found] = (await queries.services_by_code(session, ["checkout"])).values()
        found.declare(ComponentStatus.MAJOR_OUTAGE, at=NOON + timedelta(hours=1))

    await applied(db, replace(WHOLE, services=[replace(WHOLE.services[0], name="Check-out")]))

    async with db.read("operator") as session:
        row = await session.scalar(select(Service))
        assert row is not None
        assert (row.name, row.status, row.status_since) == (
            "Check-out",
            ComponentStatus.MAJOR_OUTAGE,
            NOON + timedelta(hours=1),
        )


async def test_children_may_be_named_before_their_parents(db: Database) -> None:
    line = [entry("c", parent="b"), entry("b", parent="a"), entry("a")]

    await applied(db, Catalogue(accounts=line))

    assert [await below(db, one) for one in "abc"] == [{"a", "b", "c"}, {"b", "c"}, {"c"}]


async def test_an_account_moves_with_all_that_is_below_it(db: Database) -> None:
    await applied(db, Catalogue(accounts=[entry("a"), entry("b", parent="a"), entry("c", parent="b")]))

    changes = await applied(db, Catalogue(accounts=[entry("b", parent="new"), entry("new")]))

    assert [(change.key, change.outcome, change.fields) for change in changes] == [
        ("new", Outcome.CREATED, ()),
        ("b", Outcome.UPDATED, ("parent",)),
    ]
    assert [await below(db, one) for one in ("a", "new", "b")] == [{"a"}, {"new", "b", "c"}, {"b", "c"}]

    await applied(db, Catalogue(accounts=[entry("b")]))

    assert [await below(db, one) for one in ("new", "b")] == [{"new"}, {"b", "c"}]


async def test_two_accounts_may_change_places(db: Database) -> None:
    await applied(db, Catalogue(accounts=[entry("a"), entry("b", parent="a")]))

    await applied(db, Catalogue(accounts=[entry("a", parent="b"), entry("b")]))

    assert [await below(db, one) for one in "ab"] == [{"a"}, {"a", "b"}]


@pytest.mark.parametrize(
    ("accounts", "message"),
    [
        ([entry("a", parent="a")], "accounts[0].parent puts the account below itself: a below a"),
        (
            [entry("a", parent="c")],
            "accounts[0].parent puts the account below itself: a below c below b below a",
        ),
    ],
)
async def test_a_cycle_is_refused(db: Database, accounts: list[AccountEntry], message: str) -> None:
    before = Catalogue(accounts=[entry("a"), entry("b", parent="a"), entry("c", parent="b")])
    await applied(db, before)

    with pytest.raises(CatalogueRejected) as refusal:
        await applied(db, Catalogue(accounts=accounts))

    assert [str(problem) for problem in refusal.value.problems] == [message]
    assert await standing(db) == before


async def test_references_to_nothing_are_refused_and_nothing_is_applied(db: Database) -> None:
    catalogue = Catalogue(
        accounts=[entry("a"), entry("b", parent="x")],
        dependencies=[
            DependencyEntry(account="y", service="s"),
            DependencyEntry(account="a", partner="p"),
        ],
    )

    with pytest.raises(CatalogueRejected) as refusal:
        await applied(db, catalogue)

    nowhere = "which is neither there nor in this catalogue"
    assert str(refusal.value).splitlines() == [
        f"accounts[1].parent names x, {nowhere}",
        f"dependencies[0].account names y, {nowhere}",
        f"dependencies[0].service names s, {nowhere}",
        f"dependencies[1].partner names p, {nowhere}",
    ]
    assert await standing(db) == Catalogue()
    async with db.read("operator") as session:
        assert (await session.scalars(select(AuditEntry))).all() == []


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (
            Catalogue(accounts=[entry("a", country="XX")]),
            "accounts[0].country must be an ISO 3166-1 code of two letters, such as BR",
        ),
        (
            Catalogue(accounts=[entry("a", currency="brl")]),
            "accounts[0].currency must be an ISO 4217 code, such as BRL",
        ),
        (
            Catalogue(accounts=[entry("a", time_zone="Sao_Paulo")]),
            "accounts[0].time_zone must be an IANA time zone, such as America/Sao_Paulo",
        ),
        (
            Catalogue(accounts=[entry("a", merchant_category_code="742")]),
            "accounts[0].merchant_category_code must be four digits (ISO 18245), such as 5411",
        ),
        (Catalogue(accounts=[entry("a", name="")]), "accounts[0].name must not be empty"),
        (
            Catalogue(accounts=[entry("a\x00")]),
            "accounts[0].external_id must not hold control characters",
        ),
        (
            Catalogue(accounts=[entry("a"), entry("a")]),
            "accounts[1] says again what accounts[0] says: a",
        ),
        (
            Catalogue(partners=[replace(WHOLE.partners[0], regions=["BR", "EU"])]),
            "partners[0].regions must be ISO 3166-1 codes of two letters, which 'EU' is not",
        ),
        (
            Catalogue(partners=[replace(WHOLE.partners[0], status_page_url="status.example")]),
            "partners[0].status_page_url must be an http or https address",
        ),
        (
            Catalogue(dependencies=[DependencyEntry(account="a", service="s", traffic_share=1.5)]),
            "dependencies[0].traffic_share must be from 0 to 1",
        ),
        (
            Catalogue(dependencies=[DependencyEntry(account="a", service="s", traffic_share=float("nan"))]),
            "dependencies[0].traffic_share must be from 0 to 1",
        ),
        (
            Catalogue(dependencies=[DependencyEntry(account="a")]),
            "dependencies[0].service or partner must be given, and not both",
        ),
    ],
)
async def test_an_unfit_value_is_named_and_nothing_is_applied(
    db: Database, bad: Catalogue, message: str
) -> None:
    good = [ServiceEntry(code="payouts", name="Payouts")]

    with pytest.raises(CatalogueRejected) as refusal:
        await applied(db, replace(bad, services=good))

    assert [str(problem) for problem in refusal.value.problems] == [message]
    assert await standing(db) == Catalogue()


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("accounts: [", ["c.yaml line 1: is not YAML: expected the node content, but found '<stream end>'"]),
        ("- accounts", ["c.yaml line 1: must be a mapping of names to values"]),
        ("shops: []", ["c.yaml line 1: shops is not one of accounts, services, partners, dependencies"]),
        ("services: checkout", ["c.yaml line 1: services must be a list"]),
        ("services:\n- checkout", ["c.yaml line 2: must be a mapping of names to values"]),
        (
            "services:\n- {code: c, code: d}",
            ["c.yaml line 2: must be a name, and one that is not given twice"],
        ),
        ("services:\n- {code: {}}", ["c.yaml line 2: must be a text or a list of texts"]),
        (
            "services:\n- {code: c, name: C}\n- {code: d, title: D}",
            [
                "c.yaml line 3: services[1].title is not a field;"
                " the fields are code, name, description, group",
                "c.yaml line 3: services[1].name is missing",
            ],
        ),
        (
            "dependencies:\n- {account: a, service: s, traffic_share: most}",
            ["c.yaml line 2: dependencies[0].traffic_share must be a number from 0 to 1"],
        ),
        (
            "partners:\n- {code: p, name: P, kind: SHOP}",
            [
                "c.yaml line 2: partners[0].kind must be one of CARD_NETWORK, ISSUER, ACQUIRER, BANK,"
                " PROCESSOR, WALLET, OTHER"
            ],
        ),
        (
            "partners:\n- {code: p, name: [P], kind: BANK}",
            ["c.yaml line 2: partners[0].name must be a text"],
        ),
        ("[" * 5_000, ["c.yaml: is nested too deeply"]),
    ],
)
def test_a_yaml_document_that_cannot_be_read_is_refused_with_its_line(text: str, messages: list[str]) -> None:
    with pytest.raises(CatalogueRejected) as refusal:
        document.parse(text, name="c.yaml")

    assert str(refusal.value).splitlines() == messages


@pytest.mark.parametrize(
    ("name", "content", "messages"),
    [
        (
            "shops.csv",
            b"",
            [
                "shops.csv: must be named for what it holds: accounts.csv, services.csv, partners.csv,"
                " dependencies.csv"
            ],
        ),
        (
            "services.csv",
            b'code,name\na,"x\ny"\nb\n',
            [
                "services.csv line 2: services[0].name must not hold control characters",
                "services.csv line 4: services[1].name is missing",
            ],
        ),
        ("services.csv", b"code,name\na,b,c\n", ["services.csv line 2: has 3 values for 2 columns"]),
        ("services.csv", b"code,code\n", ["services.csv line 1: must not name a column twice"]),
        ("services.csv", b'code,name\na,"b\n', ["services.csv line 2: is not CSV: unexpected end of data"]),
    ],
)
def test_a_csv_file_that_cannot_be_read_is_refused_with_its_line(
    tmp_path: Path, name: str, content: bytes, messages: list[str]
) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CatalogueRejected) as refusal:
        document.read([tmp_path / name])

    assert str(refusal.value).splitlines() == messages


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("c.yaml", b"\xff", "is not UTF-8 at byte 0"),
        ("c.json", b"{}", "must have a name that ends in .yaml, .yml, .csv"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)

    with pytest.raises(CatalogueRejected) as refusal:
        document.read([tmp_path / name])

    assert str(refusal.value) == f"{tmp_path / name}: {message}"


async def test_a_problem_of_the_whole_names_the_line_too(db: Database) -> None:
    text = "dependencies:\n- account: shop\n  service: checkout\n"

    with pytest.raises(CatalogueRejected) as refusal:
        await applied(db, document.parse(text, name="c.yaml"))

    assert [(problem.path, problem.place) for problem in refusal.value.problems] == [
        (("dependencies", "0", "account"), "c.yaml line 2"),
        (("dependencies", "0", "service"), "c.yaml line 2"),
    ]


async def test_many_accounts_are_applied_at_once(db: Database) -> None:
    shops = [entry(f"shop-{number}", parent="group") for number in range(2_000)]
    whole = Catalogue(
        accounts=[*shops, entry("group")],
        services=WHOLE.services,
        dependencies=[DependencyEntry(account=shop.external_id, service="checkout") for shop in shops],
    )

    changes = await applied(db, whole)

    assert len(changes) == 4_002
    assert len(await below(db, "group")) == 2_001
    assert {change.outcome for change in await applied(db, whole)} == {Outcome.UNCHANGED}


async def test_of_two_applied_at_once_the_second_finds_what_the_first_made(db: Database) -> None:
    outcomes = [
        {change.outcome for change in changes}
        for changes in await asyncio.gather(applied(db, WHOLE), applied(db, WHOLE))
    ]

    assert sorted(outcomes, key=str) == [{Outcome.CREATED}, {Outcome.UNCHANGED}]


async def test_a_merchant_cannot_apply_a_catalogue(db: Database) -> None:
    account = await make.account(db)

    with pytest.raises(Exception, match="row-level security"):
        async with db.transaction(f"account:{account.id}") as session:
            await service.apply(session, Catalogue(services=WHOLE.services), by="test", at=NOON)

    async with db.read("operator") as session:
        assert (await session.scalars(select(Service))).all() == []
        assert (await session.scalars(select(Dependency))).all() == []

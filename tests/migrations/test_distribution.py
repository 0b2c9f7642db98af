"""The tables keep the rules of Citus, as they are declared and as they were migrated.

Nothing here runs Citus: the rules are those of its documentation, see docs/citus.md.
"""

import asyncio
import re
import subprocess
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path

import asyncpg
import pytest
from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ExcludeConstraint

from domain import tables
from domain.core.db import Database
from domain.core.settings import APP, WORKER
from ops import migrate
from ops.embedded.postgres import package
from tests import make
from tests.conftest import Cluster

BY = "account_id"
SCRIPT = Path("docs/citus.sql")
_KINDS = {"distributed": tables.DISTRIBUTED, "reference": tables.REFERENCE, "local": tables.LOCAL}
# Foreign keys from a kind of table to another that Citus does not have.
_REFUSED = {("distributed", "local"), ("reference", "distributed"), ("local", "distributed")}
# A key with the column by which rows lie cannot do these to it.
_MOVING = {("ondelete", "SET NULL"), ("ondelete", "SET DEFAULT"), ("onupdate", "SET NULL"),
           ("onupdate", "SET DEFAULT"), ("onupdate", "CASCADE")}  # fmt: skip


def violations(metadata: MetaData, kinds: Mapping[str, Collection[str]]) -> list[str]:
    """What Citus would refuse, a line each; `kinds` are the names of distributed, reference, local tables."""
    kind_of = {name: kind for kind, names in kinds.items() for name in names}
    found: list[str] = []
    for table in metadata.tables.values():
        if kind_of[table.name] == "distributed":
            found += _of_columns(table)
            found += [
                f"{table.name}: {name} lacks {BY}" for name, columns in _keys(table) if BY not in columns
            ]
        for key in table.foreign_key_constraints:
            found += _of_reference(key, kind_of)
    return found


def _of_columns(table: Table) -> Iterator[str]:
    if BY not in table.c or not isinstance(table.c[BY].type, Uuid) or table.c[BY].nullable:
        yield f"{table.name}: has no {BY} to lie by"
    for column in table.columns:
        counts = column.identity is not None or column is table.autoincrement_column
        if counts and not isinstance(column.type, BigInteger):
            yield f"{table.name}: {column.name} counts, and is no bigint"


def _keys(table: Table) -> Iterator[tuple[str, set[str]]]:
    """Every key of the table that must be unique, by its name, with its columns."""
    for constraint in table.constraints:
        if isinstance(constraint, PrimaryKeyConstraint | UniqueConstraint | ExcludeConstraint):
            yield str(constraint.name), {column.name for column in constraint.columns}
    for index in table.indexes:
        if index.unique:
            yield str(index.name), {column.name for column in index.columns}


def _of_reference(key: ForeignKeyConstraint, kind_of: dict[str, str]) -> Iterator[str]:
    pair = kind_of[key.table.name], kind_of[key.referred_table.name]
    what = f"{key.table.name}: {key.name}"
    if pair in _REFUSED:
        yield f"{what} leads from a {pair[0]} to a {pair[1]} table"
    both_sides = {(one.parent.name, one.column.name) for one in key.elements}
    if pair == ("distributed", "distributed") and (BY, BY) not in both_sides:
        yield f"{what} lacks {BY} on both sides"
    actions = {("ondelete", key.ondelete), ("onupdate", key.onupdate)}
    if pair[0] == "distributed" and BY in key.column_keys and actions & _MOVING:
        yield f"{what} would move rows"
    if pair == ("reference", "local") and "CASCADE" in (key.ondelete, key.onupdate):
        yield f"{what} cascades from a local to a reference table"


def test_every_table_is_distributed_a_reference_or_local() -> None:
    named = Counter(name for names in _KINDS.values() for name in names)
    assert named == Counter(list(tables.metadata.tables))


def test_the_models_keep_the_rules_of_distribution() -> None:
    assert violations(tables.metadata, _KINDS) == []


async def test_the_migrated_tables_keep_the_rules_of_distribution(worker_db: Database) -> None:
    migrated = MetaData()
    names = list(tables.metadata.tables)
    async with worker_db.engine.connect() as connection:
        await connection.run_sync(migrated.reflect, only=names)
    assert violations(migrated, _KINDS) == []
    for table in migrated.tables.values():
        declared = tables.metadata.tables[table.name].primary_key
        assert list(table.primary_key.columns.keys()) == list(declared.columns.keys())


async def test_no_table_beyond_the_local_ones_has_a_trigger_or_an_exclusion(worker_db: Database) -> None:
    both = text(
        "SELECT tgrelid::regclass::text FROM pg_trigger WHERE NOT tgisinternal"
        " UNION ALL SELECT conrelid::regclass::text FROM pg_constraint WHERE contype = 'x'"
    )
    async with worker_db.read() as session:
        assert set(await session.scalars(both)) <= tables.LOCAL


async def test_no_policy_looks_into_a_distributed_table(worker_db: Database) -> None:
    """Beyond its own; a node could not ask the others for each row."""
    looks = text(
        "SELECT DISTINCT p.polrelid::regclass::text, d.refobjid::regclass::text FROM pg_policy p"
        " JOIN pg_depend d ON d.classid = 'pg_policy'::regclass AND d.objid = p.oid"
        " WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid <> p.polrelid"
    )
    async with worker_db.read() as session:
        pairs = [tuple(row) for row in await session.execute(looks)]
    assert ("partners", "dependencies") in pairs
    assert [pair for pair in pairs if pair[1] in tables.DISTRIBUTED] == []
    looked_into_whole = [of for by, of in pairs if by in tables.REFERENCE]
    assert set(looked_into_whole) <= tables.REFERENCE


def _tables(**keys: object) -> MetaData:
    """An `owned` table by account, a `shared` and a `plain` one; `keys` are further parts of them."""
    metadata = MetaData()
    columns = {
        "owned": [Column("id", Uuid, primary_key=True), Column(BY, Uuid, primary_key=True)],
        "shared": [Column("id", Uuid, primary_key=True)],
        "plain": [Column("id", Uuid, primary_key=True)],
    }
    for name in columns:
        parts = keys.get(name, [])
        assert isinstance(parts, list)
        Table(name, metadata, *columns[name], *parts)
    return metadata


_MADE = {"distributed": ["owned"], "reference": ["shared"], "local": ["plain"]}


def _to(table: str, *, ondelete: str | None = None) -> list[object]:
    return [Column("other", Uuid, ForeignKey(f"{table}.id", name="fk", ondelete=ondelete))]


@pytest.mark.parametrize(
    ("keys", "violation"),
    [
        (
            {"owned": [Column("name", Integer), UniqueConstraint("name", name="uq")]},
            "owned: uq lacks account_id",
        ),
        (
            {"owned": [Column("name", Integer), Index("ux", "name", unique=True)]},
            "owned: ux lacks account_id",
        ),
        (
            {"owned": [Column("name", Integer), ExcludeConstraint(("name", "="), name="ex")]},
            "owned: ex lacks account_id",
        ),
        ({"owned": [Column("number", Integer, Identity())]}, "owned: number counts, and is no bigint"),
        ({"owned": _to("plain")}, "owned: fk leads from a distributed to a local table"),
        ({"shared": _to("owned")}, "shared: fk leads from a reference to a distributed table"),
        ({"plain": _to("owned")}, "plain: fk leads from a local to a distributed table"),
        (
            {"shared": _to("plain", ondelete="CASCADE")},
            "shared: fk cascades from a local to a reference table",
        ),
        ({"owned": _to("owned")}, "owned: fk lacks account_id on both sides"),
        (
            {"owned": [ForeignKeyConstraint([BY], ["shared.id"], name="fk", ondelete="SET NULL")]},
            "owned: fk would move rows",
        ),
    ],
)
def test_a_table_against_the_rules_is_found(keys: dict[str, list[object]], violation: str) -> None:
    assert violations(_tables(**keys), _MADE) == [violation]


def test_a_distributed_table_without_the_account_in_its_key_is_found() -> None:
    metadata = MetaData()
    Table("owned", metadata, Column("id", Uuid, primary_key=True), Column(BY, Uuid, nullable=True))
    assert violations(metadata, _MADE) == [
        "owned: has no account_id to lie by",
        "owned: None lacks account_id",
    ]


def test_tables_within_the_rules_are_let_be() -> None:
    metadata = _tables(
        owned=[
            Column("number", BigInteger, Identity()),
            Column("above", Uuid),
            UniqueConstraint("number", BY),
            ForeignKeyConstraint([BY], ["shared.id"]),
            ForeignKeyConstraint([BY, "above"], [f"owned.{BY}", "owned.id"]),
        ],
        shared=_to("plain"),
        plain=_to("shared"),
    )
    assert violations(metadata, _MADE) == []


def test_the_script_lays_out_the_tables_as_they_are_declared() -> None:
    script = SCRIPT.read_text()
    assert Counter(re.findall(r"create_reference_table\('(\w+)'\)", script)) == Counter(tables.REFERENCE)
    by_account = re.findall(
        r"create_distributed_table\('(\w+)', 'account_id', colocate_with => '(\w+)'\)", script
    )
    assert Counter(name for name, _ in by_account) == Counter(tables.DISTRIBUTED)
    assert by_account[0] == ("series", "none")
    assert {beside for _, beside in by_account[1:]} == {"series"}


@pytest.fixture
async def laid_out(cluster: Cluster, new_database: Callable[[], Awaitable[str]]) -> str:
    """A migrated database, to be laid out."""
    name = await new_database()
    await asyncio.to_thread(migrate.upgrade, cluster.settings(name))
    return name


def _run_script(url: str) -> None:
    """All of it that plain Postgres knows."""
    known = re.sub(r"^SELECT create_\w+\(.*\);$", "", SCRIPT.read_text(), flags=re.MULTILINE)
    psql = [str(package() / "pginstall" / "bin" / "psql"), "-qAt", "-v", "ON_ERROR_STOP=1", url]
    subprocess.run(psql, input=known, text=True, check=True)


async def _seen(db: Database, scopes: list[str]) -> dict[tuple[str, str], set[str]]:
    """Which rows of each table each scope sees."""
    seen: dict[tuple[str, str], set[str]] = {}
    readable = "SELECT has_table_privilege(:table, 'SELECT')"
    for scope in scopes:
        async with db.read(scope) as session:
            for table in sorted(tables.metadata.tables):
                if await session.scalar(text(readable), {"table": table}):
                    rows = await session.scalars(text(f"SELECT t::text FROM {table} t"))
                    seen[scope, table] = set(rows)
    return seen


async def test_the_policies_of_the_script_show_what_those_of_the_migrations_do(
    cluster: Cluster, laid_out: str
) -> None:
    db, worker = Database(cluster.url(APP, laid_out), APP), Database(cluster.url(WORKER, laid_out), WORKER)
    above = await make.account(db)
    below, other = await make.account(db, parent=above), await make.account(db)
    partner, rival = await make.partner(db), await make.partner(db)
    await make.dependency(db, below, partner)
    for account, about in ((below, partner), (other, rival)):
        incident = await make.incident(worker, partners=[about], accounts=[account])
        await make.update(worker, incident)
        await make.insight(worker, account)
        await make.anomaly(worker, await make.series(worker, account, outcome="approved"), incident)
        await make.key(db, account=account)
        await make.watch(worker, account, until=make.NOON)
    await make.incident(worker, services=[await make.service(db)], is_public=True)
    whose = [f"account:{one.id}" for one in (above, below, other)]
    whose += [f"partner:{one.id}" for one in (partner, rival)]
    scopes = ["operator", "public", "ingest", "nobody", "", *whose]

    before = await _seen(db, scopes)
    await asyncio.to_thread(_run_script, cluster.url(database=laid_out))
    after = await _seen(db, scopes)

    await db.dispose()
    await worker.dispose()
    assert after == before
    assert len(before[whose[0], "incidents"]) == len(before[whose[3], "incidents"]) == 1


async def test_the_script_leaves_no_subquery_in_a_policy_and_every_key_as_it_was(
    cluster: Cluster, laid_out: str
) -> None:
    connection = await asyncpg.connect(cluster.url(database=laid_out))
    subqueries = (
        "SELECT polrelid::regclass::text FROM pg_policy WHERE concat(polqual, polwithcheck) ~ 'SUBLINK'"
    )
    keys = "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' ORDER BY 1"
    before = await connection.fetch(keys)
    assert {row[0] for row in await connection.fetch(subqueries)} >= tables.DISTRIBUTED - {"last_readings"}
    await asyncio.to_thread(_run_script, cluster.url(database=laid_out))
    left = {row[0] for row in await connection.fetch(subqueries)}
    after = await connection.fetch(keys)
    await connection.close()
    assert left == {"events"}  # no other table refers to it, so that it is none of Citus's
    assert after == before


async def test_an_anomaly_of_another_accounts_series_stops_the_change_of_keys_until_it_is_gone(
    cluster: Cluster, laid_out: str
) -> None:
    settings = cluster.settings(laid_out)
    worker = Database(cluster.url(WORKER, laid_out), WORKER)
    account = await make.account(worker)
    wrong = await make.anomaly(worker, await make.series(worker, await make.account(worker)))
    await worker.dispose()
    await asyncio.to_thread(migrate.downgrade, settings, "0003")
    admin = await asyncpg.connect(cluster.url(database=laid_out))
    await admin.execute("UPDATE anomalies SET account_id = $1", account.id)

    with pytest.raises(Exception, match="fk_anomalies_account_id_series_id"):
        await asyncio.to_thread(migrate.upgrade, settings)
    assert await asyncio.to_thread(migrate.status, settings) == ("0003", migrate.head())

    await admin.execute("DELETE FROM anomalies WHERE id = $1", wrong.id)
    await asyncio.to_thread(migrate.upgrade, settings)
    unforced = "SELECT count(*) FROM pg_class WHERE relrowsecurity AND NOT relforcerowsecurity"
    assert await admin.fetchval(unforced) == 0
    assert await asyncio.to_thread(migrate.status, settings) == (migrate.head(), migrate.head())
    await admin.close()

"""Row security is forced on every table that the app may touch, and nothing leads around it."""

from uuid import uuid4

import pytest
from sqlalchemy import text

from domain import tables
from domain.core.db import Database
from tests import make

LOG = "ingest_log"
CATALOG = """
SELECT c.relname AS name, c.relrowsecurity AND c.relforcerowsecurity AS secured, c.relispartition AS part
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'public' AND c.relkind IN ('r', 'p') AND c.relname <> 'alembic_version'
"""
GRANTS = """
SELECT DISTINCT table_name FROM information_schema.role_table_grants
WHERE table_schema = 'public' AND grantee IN ('vitals_app', 'vitals_worker', 'PUBLIC')
"""


async def test_connections_are_neither_superuser_nor_beyond_row_security(
    db: Database, worker_db: Database
) -> None:
    for one in (db, worker_db):
        async with one.read() as session:
            row = (
                await session.execute(
                    text("SELECT rolsuper, rolbypassrls FROM pg_roles WHERE rolname = current_user")
                )
            ).one()
        assert tuple(row) == (False, False)


async def test_every_table_but_the_log_has_forced_row_security(worker_db: Database) -> None:
    async with worker_db.read() as session:
        rows = (await session.execute(text(CATALOG))).all()
    assert {row.name for row in rows if not row.part} == set(tables.metadata.tables)
    assert [row.name for row in rows if not row.secured and row.name != LOG] == []


async def test_nobody_has_a_grant_on_a_partition(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        await session.execute(text("SELECT make_minutes_partitions(ARRAY['2026-11-23'::date])"))
        partitions = {row.name for row in await session.execute(text(CATALOG)) if row.part}
        granted = set(await session.scalars(text(GRANTS)))
    assert partitions
    assert partitions.isdisjoint(granted)


async def test_an_unset_or_unknown_scope_sees_no_row_of_any_table(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    await make.insight(worker_db, account)
    await make.incident(worker_db, accounts=[account])
    for scope in ("", "nobody", f"account:{uuid4()}", f"partner:{uuid4()}"):
        async with db.read(scope) as session:
            for table in ("accounts", "account_tree", "insights", "incidents", "incident_accounts"):
                assert await session.scalar(text(f"SELECT count(*) FROM {table}")) == 0


async def test_the_scope_ends_with_its_transaction(db: Database) -> None:
    await make.account(db)
    one = Database(db.url, db.role, pool_size=1)
    async with one.read("operator") as session:
        assert await session.scalar(text("SELECT count(*) FROM accounts")) == 1
    async with one.engine.connect() as connection:
        assert await connection.scalar(text("SELECT count(*) FROM accounts")) == 0
    await one.dispose()


async def test_the_app_cannot_write_what_the_workers_find(db: Database) -> None:
    account = await make.account(db)
    with pytest.raises(Exception, match="permission denied"):
        await make.insight(db, account)


async def test_a_partner_cannot_look_into_an_incident_by_joining_it(
    db: Database, worker_db: Database
) -> None:
    own, other = await make.partner(db), await make.partner(db)
    incident = await make.incident(worker_db, partners=[other])
    join = text("INSERT INTO incident_partners (partner_id, incident_id) VALUES (:partner, :incident)")
    with pytest.raises(Exception, match="row-level security"):
        async with db.transaction(f"partner:{own.id}") as session:
            await session.execute(join, {"partner": own.id, "incident": incident.id})

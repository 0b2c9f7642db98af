"""Telemetry in blocks: minutes a row an account's shard, rollups of every step, chunks of closed days.

The minutes that were kept a row a point go back into the log, from which they are folded anew, and all
rollups are made of them. The workers of the release before must be stopped.
"""

import struct
import zlib
from collections.abc import Iterator
from itertools import groupby
from uuid import UUID

import numpy as np
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

APP, WORKER = "vitals_app", "vitals_worker"
KIND = "(SELECT scope_kind())"
OWN = f"({KIND} = 'operator' OR account_id = ANY ((SELECT scope_accounts())::uuid[]))"
INGESTING = f"({KIND} IN ('operator', 'ingest') OR account_id = ANY ((SELECT scope_accounts())::uuid[]))"
SENDER = "scope = current_setting('vitals.scope', true)"
LOGGING = f"{KIND} = 'log'"

# Per new table: what the app role may read, insert and update.
SECURITY: dict[str, tuple[str | None, str | None, str | None]] = {
    "account_series": (INGESTING, INGESTING, INGESTING),
    "minutes": (OWN, None, None),
    "last_readings": (None, None, None),
    "rollups": (OWN, None, None),
    "dirty_windows": (OWN, None, None),
    "shard_days": (OWN, None, None),
    "chunks": (OWN, None, None),
    "watermarks": (OWN, None, None),
}
OLD = ("minutes", "hours", "dirty_hours", "watermarks")
_BLOB = {
    "minutes": "cells",
    "rollups": "cells",
    "chunks": "cells",
    "last_readings": "readings",
    "ingest_log": "columns",
}

_TYPES: dict[str, sa.types.TypeEngine[object]] = {
    "account_id": sa.Uuid(),
    "at": sa.DateTime(timezone=True),
    "cells": sa.LargeBinary(),
    "changes": sa.BigInteger(),
    "count": sa.BigInteger(),
    "day": sa.Date(),
    "is_packed": sa.Boolean(),
    "number": sa.Integer(),
    "readings": sa.LargeBinary(),
    "series_id": sa.Uuid(),
    "shard": sa.Integer(),
    "source": sa.Integer(),
    "source_id": sa.Uuid(),
    "step": sa.Integer(),
    "value": sa.Double(),
}
# The columns of the key, and the others.
_TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "minutes": (("account_id", "shard", "at", "source"), ("cells",)),
    "last_readings": (("account_id", "shard", "source"), ("readings",)),
    "rollups": (("account_id", "step", "shard", "at"), ("cells",)),
    "dirty_windows": (("account_id", "step", "at"), ()),
    "shard_days": (("account_id", "shard", "day"), ("changes", "is_packed")),
    "chunks": (("account_id", "number", "day"), ("cells",)),
}
_OLD_TABLES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "minutes": (("account_id", "series_id", "at", "source_id"), ("value", "count")),
    "hours": (("account_id", "series_id", "at"), ("value", "count")),
    "dirty_hours": (("account_id", "at"), ()),
}

# Row security hides every row from the owner: a partition is looked into while it is lifted.
EMPTY_PARTITIONS = """
CREATE FUNCTION empty_minutes_partitions(days date[]) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp SET lock_timeout = '1s' AS $$
DECLARE day date; name text; has_rows boolean; emptied integer := 0;
BEGIN
  FOR day IN SELECT DISTINCT unnest(days) ORDER BY 1 LOOP
    name := 'minutes_' || to_char(day, 'YYYYMMDD');
    CONTINUE WHEN to_regclass(name) IS NULL OR pg_relation_size(to_regclass(name)) = 0;
    EXECUTE format('ALTER TABLE %I NO FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('SELECT EXISTS (SELECT FROM %I)', name) INTO has_rows;
    IF NOT has_rows THEN
      EXECUTE format('TRUNCATE %I', name);
      emptied := emptied + 1;
    END IF;
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
  END LOOP;
  RETURN emptied;
END $$
"""

# The app can only append to the log, but must know when the workers do not keep up with it.
OLDEST_LOGGED = """
CREATE FUNCTION oldest_logged() RETURNS timestamptz LANGUAGE sql STABLE
SECURITY DEFINER SET search_path = public, pg_temp AS $$
  SELECT received_at FROM ingest_log WHERE failure IS NULL ORDER BY id LIMIT 1
$$
"""


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("accounts", "series", "sources", *OLD):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    _number_series()
    _log_minutes()
    _replace_watermarks("source", "number", sa.Integer())
    for table in ("hours", "dirty_hours", "minutes"):
        op.drop_table(table)
    _create_blocks()
    _secure()
    op.execute(EMPTY_PARTITIONS)
    op.execute("REVOKE EXECUTE ON FUNCTION empty_minutes_partitions(date[]) FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION empty_minutes_partitions(date[]) TO {WORKER}")
    op.execute(OLDEST_LOGGED)
    op.execute("REVOKE EXECUTE ON FUNCTION oldest_logged() FROM PUBLIC")
    op.execute(f"GRANT EXECUTE ON FUNCTION oldest_logged() TO {APP}")
    for table in ("accounts", "series", "sources"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def _number_series() -> None:
    op.add_column("series", sa.Column("number", sa.Integer()))
    op.add_column("series", sa.Column("kind", sa.String(length=60), nullable=False, server_default="GAUGE"))
    op.execute(
        """
        UPDATE series s SET number = n.number FROM (
          SELECT id, row_number() OVER (PARTITION BY account_id ORDER BY created_at, id) AS number
          FROM series WHERE is_measured) n
        WHERE n.id = s.id
        """
    )
    op.execute(
        """
        UPDATE series SET kind = CASE
          WHEN metric IN ('authorization_rate', 'completion_rate') THEN 'RATE'
          WHEN metric IN ('payments.count', 'payments.attempted', 'api.requests', 'webhooks.count',
                          'fraud.count', 'checks.count') THEN 'COUNT'
          WHEN metric IN ('payments.amount', 'fraud.amount') THEN 'AMOUNT'
          WHEN metric IN ('payments.latency', 'api.latency', 'webhooks.latency', 'checks.latency')
            THEN 'DISTRIBUTION'
          ELSE 'GAUGE' END
        """
    )
    op.alter_column("series", "kind", server_default=None)
    op.create_unique_constraint(op.f("uq_series_account_id_number"), "series", ["account_id", "number"])
    op.create_check_constraint(op.f("ck_series_numbered"), "series", "is_measured = (number IS NOT NULL)")
    op.create_table(
        "account_series",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("last_number", sa.Integer(), nullable=False),
        sa.Column("watched_number", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_series_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_series")),
    )
    op.execute(
        "INSERT INTO account_series SELECT account_id, max(number), max(number) FROM series"
        " GROUP BY 1 HAVING max(number) > 0"
    )
    op.execute("ALTER TABLE sources ADD COLUMN number integer GENERATED ALWAYS AS IDENTITY NOT NULL")
    op.create_unique_constraint(op.f("uq_sources_number"), "sources", ["number"])
    heard_at = sa.Column("heard_at", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False)
    op.add_column("sources", heard_at)


def _replace_watermarks(column: str, target: str, kind: sa.types.TypeEngine[object]) -> None:
    """Make the table anew with `column` referring to `target` of the sources."""
    other = "source_id" if column == "source" else "source"
    for verb in ("worker", "app_select"):
        op.execute(f"DROP POLICY {verb} ON watermarks")
    for name in ("pk_watermarks", "fk_watermarks_account_id", f"fk_watermarks_{other}"):
        op.execute(f"ALTER TABLE watermarks DROP CONSTRAINT {name}")
    op.rename_table("watermarks", "old_watermarks")
    op.create_table(
        "watermarks",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column(column, kind, nullable=False),
        sa.Column("oldest_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("newest_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_watermarks_account_id")),
        sa.ForeignKeyConstraint([column], [f"sources.{target}"], name=op.f(f"fk_watermarks_{column}")),
        sa.PrimaryKeyConstraint("account_id", column, name=op.f("pk_watermarks")),
    )
    was = "number" if target == "id" else "id"
    op.execute(
        f"INSERT INTO watermarks SELECT w.account_id, s.{target}, w.oldest_at, w.newest_at, w.received_at"
        f" FROM old_watermarks w JOIN sources s ON s.{was} = w.{other}"
    )
    op.drop_table("old_watermarks")


def _create(tables: dict[str, tuple[tuple[str, ...], tuple[str, ...]]]) -> None:
    for name, (keys, others) in tables.items():
        op.create_table(
            name,
            *(sa.Column(column, _TYPES[column], nullable=False) for column in (*keys, *others)),
            sa.PrimaryKeyConstraint(*keys, name=op.f(f"pk_{name}")),
            postgresql_partition_by="RANGE (at)" if name == "minutes" else None,
        )


def _create_blocks() -> None:
    _create(_TABLES)
    op.create_index(
        op.f("ix_dirty_windows_step_at_account_id"), "dirty_windows", ["step", "at", "account_id"]
    )
    where = sa.text("NOT is_packed")
    op.create_index("ix_shard_days_unpacked", "shard_days", ["day"], postgresql_where=where)
    # What is compressed already is not compressed again.
    for table, column in _BLOB.items():
        op.execute(f"ALTER TABLE {table} ALTER COLUMN {column} SET STORAGE EXTERNAL")


def _secure() -> None:
    for table, (read, insert, update) in SECURITY.items():
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY worker ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WORKER}")
        clauses = {
            "SELECT": read and f"USING ({read})",
            "INSERT": insert and f"WITH CHECK ({insert})",
            "UPDATE": update and f"USING ({update}) WITH CHECK ({update})",
        }
        for verb, clause in clauses.items():
            if clause:
                op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO {APP} {clause}")
                op.execute(f"GRANT {verb} ON {table} TO {APP}")
    _set_batch_policies(LOGGING)


def _set_batch_policies(clause: str) -> None:
    for verb, word in (("SELECT", "USING"), ("INSERT", "WITH CHECK")):
        op.execute(f"DROP POLICY app_{verb.lower()} ON ingest_batches")
        op.execute(
            f"CREATE POLICY app_{verb.lower()} ON ingest_batches FOR {verb} TO {APP} {word} ({clause})"
        )


# Of the release before: batches of version 1, whose keys are account, series and source.
_HEADER = struct.Struct("<3sBII")
_ROWS = 20_000
_GONE = UUID(int=0)  # a source that was forgotten
_OLD_MINUTES = """
SELECT account_id, series_id, source_id, extract(epoch FROM at)::bigint AS at, value, count
FROM minutes ORDER BY account_id, at
"""
# Before all that waits: it is older.
_FIRST_ID = "SELECT least(coalesce(min(id), 0), 0) - 1000000000 FROM ingest_log"
_LOG = """
INSERT INTO ingest_log (id, received_at, backfill, points, columns) OVERRIDING SYSTEM VALUE
VALUES (:id, now(), true, :points, :columns)
"""


def _log_minutes() -> None:
    connection = op.get_bind()
    first = connection.scalar(sa.text(_FIRST_ID))
    # A cursor of the server's own: one of the driver's would keep the table in use.
    op.execute(f"DECLARE old_minutes NO SCROLL CURSOR FOR {_OLD_MINUTES}")
    fetch, number = sa.text(f"FETCH {_ROWS} FROM old_minutes"), first
    while part := connection.execute(fetch).all():
        _log([tuple(row) for row in part], id=number)
        number += 1
    op.execute("CLOSE old_minutes")


def _log(rows: list[tuple[object, ...]], *, id: int) -> None:
    """Append a batch of (account, series, source, epoch second, value, count), each of which replaces."""
    keys = {key: index for index, key in enumerate(dict.fromkeys(row[:3] for row in rows))}
    at = np.array([row[3] for row in rows], "<i8")
    parts = (
        b"".join(part.bytes for key in keys for part in key),  # type: ignore[attr-defined]
        np.array([keys[row[:3]] for row in rows], "<i4").tobytes(),
        np.diff(at, prepend=np.int64(0)).astype("<i8").tobytes(),
        np.array([row[4] for row in rows], "<f8").tobytes(),
        np.array([row[5] for row in rows], "<i8").tobytes(),
        bytes(len(rows)),
    )
    batch = _HEADER.pack(b"VTC", 1, len(keys), len(rows)) + zlib.compress(b"".join(parts), level=1)
    op.get_bind().execute(sa.text(_LOG), {"id": id, "points": len(rows), "columns": batch})


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in ("accounts", "series", "sources", *SECURITY):
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    _require_folded()
    first = op.get_bind().scalar(sa.text(_FIRST_ID))
    for number, rows in enumerate(_parts(_blocks())):
        _log(rows, id=first + number)
    _set_batch_policies(SENDER)
    op.execute("DROP FUNCTION oldest_logged()")
    op.execute("DROP FUNCTION empty_minutes_partitions(date[])")
    _replace_watermarks("source_id", "id", sa.Uuid())
    for table in (
        "chunks",
        "shard_days",
        "dirty_windows",
        "rollups",
        "last_readings",
        "minutes",
        "account_series",
    ):
        op.drop_table(table)
    op.execute("ALTER TABLE ingest_log ALTER COLUMN columns SET STORAGE EXTENDED")
    op.drop_constraint(op.f("uq_sources_number"), "sources")
    op.drop_column("sources", "number")
    op.drop_column("sources", "heard_at")
    op.drop_constraint(op.f("ck_series_numbered"), "series")
    op.drop_constraint(op.f("uq_series_account_id_number"), "series")
    op.drop_column("series", "kind")
    op.drop_column("series", "number")
    _create_rows()
    for table in ("accounts", "series", "sources"):
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")


def _parts(many: Iterator[list[tuple[object, ...]]]) -> Iterator[list[tuple[object, ...]]]:
    """The same, none of more than _ROWS rows."""
    for rows in many:
        for start in range(0, len(rows), _ROWS):
            yield rows[start : start + _ROWS]


def _require_folded() -> None:
    waiting = op.get_bind().scalar(sa.text("SELECT count(*) FROM ingest_log WHERE get_byte(columns, 3) > 1"))
    if waiting:
        raise RuntimeError(
            f"{waiting} batches of the log wait to be folded: let the workers fold them first."
        )


def _blocks() -> Iterator[list[tuple[object, ...]]]:
    """The rows of every block and chunk, as `_log` takes them; distributions lose their buckets."""
    from domain.telemetry import blocks, chunks

    connection = op.get_bind()
    series = {
        (row.account_id, row.number): row.id
        for row in connection.execute(sa.text("SELECT account_id, number, id FROM series WHERE number > 0"))
    }
    sources = {row.number: row.id for row in connection.execute(sa.text("SELECT number, id FROM sources"))}
    minutes = connection.execute(
        sa.text(
            "SELECT account_id, shard, source, extract(epoch FROM at)::bigint AS at, cells"
            " FROM minutes ORDER BY account_id, at"
        )
    ).all()
    for account, group in groupby(minutes, key=lambda row: row.account_id):
        yield [
            (account, series[account, number], sources.get(row.source, _GONE), row.at, value, count)
            for row in group
            for number, value, count in blocks.rows(row.cells, shard=row.shard)
        ]
    for row in connection.execute(sa.text("SELECT account_id, number, day, cells FROM chunks")).all():
        yield [
            (row.account_id, series[row.account_id, row.number], sources.get(source, _GONE), at, value, count)
            for source, at, value, count in chunks.rows(row.cells, day=row.day)
        ]


def _create_rows() -> None:
    """The tables of the release before, empty: its workers fold and roll up what lies in the log."""
    _create(_OLD_TABLES)
    for table in OLD:
        op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY worker ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WORKER}")
        op.execute(f"CREATE POLICY app_select ON {table} FOR SELECT TO {APP} USING ({OWN})")
        op.execute(f"GRANT SELECT ON {table} TO {APP}")

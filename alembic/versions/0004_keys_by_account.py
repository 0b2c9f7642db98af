"""The account in every key of what is its own, so that the tables can be distributed by it.

Indexes are built and rows are checked beside the traffic; only the exchange of the keys locks. Broken off
anywhere, it is begun again.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

# Their rows are known by `id`, which leads the key: who asks by it alone needs no index besides.
KEYED = ("series", "jobs", "forecasts", "anomalies", "insights")
# They refer to a series, which is of the same account.
REFERRING = ("jobs", "forecasts", "anomalies", "watches")


def upgrade() -> None:
    _build(key="id, account_id", open_jobs="account_id, series_id, trained_until")
    _exchange()
    _refer("account_id, series_id", "account_id, id")


def downgrade() -> None:
    _build(key="id", open_jobs="series_id, trained_until")
    _exchange()
    _refer("series_id", "id")


def _build(*, key: str, open_jobs: str) -> None:
    indexes = {f"new_pk_{table}": f"{table} ({key})" for table in KEYED}
    indexes["new_uq_jobs_open"] = f"jobs ({open_jobs}) WHERE finished_at IS NULL"
    with op.get_context().autocommit_block():
        for name, of in indexes.items():
            # One whose building was broken off is there, and is invalid.
            op.execute(f"DROP INDEX CONCURRENTLY IF EXISTS {name}")
            op.execute(f"CREATE UNIQUE INDEX CONCURRENTLY {name} ON {of}")


def _exchange() -> None:
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in REFERRING:
        for columns in ("series_id", "account_id_series_id"):
            op.execute(f"ALTER TABLE {table} DROP CONSTRAINT IF EXISTS fk_{table}_{columns}")
    for table in KEYED:
        op.execute(
            f"ALTER TABLE {table} DROP CONSTRAINT pk_{table},"
            f" ADD CONSTRAINT pk_{table} PRIMARY KEY USING INDEX new_pk_{table}"
        )
    op.execute("DROP INDEX uq_jobs_open")
    op.execute("ALTER INDEX new_uq_jobs_open RENAME TO uq_jobs_open")


def _refer(columns: str, referred: str) -> None:
    name = columns.replace(", ", "_")
    for table in REFERRING:
        op.execute(
            f"ALTER TABLE {table} ADD CONSTRAINT fk_{table}_{name}"
            f" FOREIGN KEY ({columns}) REFERENCES series ({referred}) NOT VALID"
        )
    # Row security hides every row from the owner: what it does not see, it would find in order.
    secured = ("series", *REFERRING)
    for table in secured:
        op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    with op.get_context().autocommit_block():
        for table in REFERRING:
            op.execute(f"ALTER TABLE {table} VALIDATE CONSTRAINT fk_{table}_{name}")
    op.execute("SET LOCAL lock_timeout = '5s'")
    for table in secured:
        op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")

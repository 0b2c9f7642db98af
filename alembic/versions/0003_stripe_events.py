"""Stripe: endpoints, whose accounts are whose, and the events that came."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP, WORKER = "vitals_app", "vitals_worker"
KIND = "(SELECT scope_kind())"
OPERATOR = f"{KIND} = 'operator'"
ACCOUNTS = "ANY ((SELECT scope_accounts())::uuid[])"
# A door is in the scope of its endpoint from before the signature is proven: it shows nobody's accounts.
ENDPOINT = f"({KIND} = 'stripe' AND {{column}}::text = (SELECT scope_value()))"

# Per table: what the app role may read, insert, update and delete; None is no grant at all.
SECURITY: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "stripe_endpoints": (f"({OPERATOR} OR {ENDPOINT.format(column='id')})", OPERATOR, OPERATOR, None),
    "stripe_accounts": (
        f"({OPERATOR} OR {KIND} = 'ingest' OR account_id = {ACCOUNTS})",
        OPERATOR,
        OPERATOR,
        OPERATOR,
    ),
    "stripe_events": (
        f"({OPERATOR} OR {ENDPOINT.format(column='endpoint_id')})",
        ENDPOINT.format(column="endpoint_id"),
        None,
        None,
    ),
}


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    _create_endpoints()
    _create_accounts()
    _create_events()
    for table, clauses in SECURITY.items():
        _secure(table, *clauses)
    # What waited for its account is taken in by the workers.
    op.execute(f"GRANT INSERT ON ingest_log TO {WORKER}")


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    op.execute(f"REVOKE INSERT ON ingest_log FROM {WORKER}")
    for table in ("stripe_events", "stripe_accounts", "stripe_endpoints"):
        op.drop_table(table)


def _create_endpoints() -> None:
    op.create_table(
        "stripe_endpoints",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("secret", sa.LargeBinary(), nullable=False),
        sa.Column("old_secret", sa.LargeBinary(), nullable=True),
        sa.Column("old_secret_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("takes_tests", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("removed_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_stripe_endpoints_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_endpoints")),
    )
    op.create_index(op.f("ix_stripe_endpoints_account_id"), "stripe_endpoints", ["account_id"])


def _create_accounts() -> None:
    op.create_table(
        "stripe_accounts",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_stripe_accounts_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_stripe_accounts")),
    )
    op.create_index(op.f("ix_stripe_accounts_account_id"), "stripe_accounts", ["account_id"])


def _create_events() -> None:
    op.create_table(
        "stripe_events",
        sa.Column("endpoint_id", sa.Uuid(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column(
            "state",
            sa.Enum(
                "TAKEN",
                "IGNORED",
                "UNMAPPED",
                "UNRESOLVED",
                "FAILED",
                name="state",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("is_live", sa.Boolean(), nullable=False),
        sa.Column("stripe_account", sa.Text(), nullable=True),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("remark", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("next_attempt_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_stripe_events_account_id")),
        sa.PrimaryKeyConstraint("endpoint_id", "id", name=op.f("pk_stripe_events")),
    )
    waiting = {
        "ix_stripe_events_unmapped": ("stripe_account", "UNMAPPED"),
        "ix_stripe_events_unresolved": ("next_attempt_at", "UNRESOLVED"),
    }
    for name, (column, state) in waiting.items():
        op.create_index(name, "stripe_events", [column], postgresql_where=sa.text(f"state = '{state}'"))
    op.create_index(op.f("ix_stripe_events_received_at"), "stripe_events", ["received_at"])
    op.create_index(
        "uq_stripe_events_taken",
        "stripe_events",
        ["account_id", "id"],
        unique=True,
        postgresql_where=sa.text("state = 'TAKEN'"),
    )


def _secure(table: str, read: str | None, insert: str | None, update: str | None, delete: str | None) -> None:
    op.execute(f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY worker ON {table} TO {WORKER} USING (true) WITH CHECK (true)")
    op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {WORKER}")
    clauses = {
        "SELECT": read and f"USING ({read})",
        "INSERT": insert and f"WITH CHECK ({insert})",
        "UPDATE": update and f"USING ({update}) WITH CHECK ({update})",
        "DELETE": delete and f"USING ({delete})",
    }
    for verb, clause in clauses.items():
        if clause:
            op.execute(f"CREATE POLICY app_{verb.lower()} ON {table} FOR {verb} TO {APP} {clause}")
            op.execute(f"GRANT {verb} ON {table} TO {APP}")

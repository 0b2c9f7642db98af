"""Every table of the first release, its row security, the roles' grants and the owner's functions."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


APP, WORKER = "vitals_app", "vitals_worker"

FUNCTIONS = (
    """
CREATE FUNCTION scope_kind() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT nullif(split_part(nullif(current_setting('vitals.scope', true), ''), ':', 1), '')
$$
""",
    """
CREATE FUNCTION scope_value() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT split_part(nullif(current_setting('vitals.scope', true), ''), ':', 2)
$$
""",
    """
CREATE FUNCTION scope_account() RETURNS uuid STABLE LANGUAGE sql AS $$
  SELECT CASE WHEN scope_kind() = 'account' THEN scope_value()::uuid END
$$
""",
    """
CREATE FUNCTION scope_partner() RETURNS uuid STABLE LANGUAGE sql AS $$
  SELECT CASE WHEN scope_kind() = 'partner' THEN scope_value()::uuid END
$$
""",
    """
CREATE FUNCTION scope_accounts() RETURNS uuid[] STABLE LANGUAGE sql AS $$
  SELECT coalesce(array_agg(t.account_id), '{}') FROM account_tree t WHERE t.ancestor_id = scope_account()
$$
""",
    """
CREATE FUNCTION scope_stream() RETURNS text STABLE LANGUAGE sql AS $$
  SELECT CASE WHEN scope_kind() IN ('operator', 'public') THEN scope_kind()
              WHEN scope_kind() IN ('account', 'partner') THEN current_setting('vitals.scope', true) END
$$
""",
    # plpgsql, which is not inlined: the policies of two tables may not refer to each other in a circle.
    """
CREATE FUNCTION sees_incident(incident uuid) RETURNS boolean STABLE LANGUAGE plpgsql AS $$
BEGIN
  RETURN EXISTS (SELECT FROM incidents i WHERE i.id = incident);
END $$
""",
    """
CREATE FUNCTION make_minutes_partitions(days date[]) RETURNS void LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE day date; name text;
BEGIN
  FOR day IN SELECT DISTINCT unnest(days) ORDER BY 1 LOOP
    name := 'minutes_' || to_char(day, 'YYYYMMDD');
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    PERFORM pg_advisory_xact_lock(hashtext('minutes_partitions'));
    CONTINUE WHEN to_regclass(name) IS NOT NULL;
    EXECUTE format('CREATE TABLE %I (LIKE minutes INCLUDING ALL)', name);
    -- Nobody is granted anything on a partition, and no policy lets anyone read one directly.
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE minutes ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)', name,
                   day::timestamp AT TIME ZONE 'UTC', (day + 1)::timestamp AT TIME ZONE 'UTC');
  END LOOP;
END $$
""",
    """
CREATE FUNCTION drop_minutes_partitions(before date) RETURNS integer LANGUAGE plpgsql
SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE name text; dropped integer := 0;
BEGIN
  FOR name IN SELECT c.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
              WHERE i.inhparent = 'minutes'::regclass AND right(c.relname, 8) < to_char(before, 'YYYYMMDD')
  LOOP
    EXECUTE format('DROP TABLE %I', name);
    dropped := dropped + 1;
  END LOOP;
  RETURN dropped;
END $$
""",
)
PARTITION_FUNCTIONS = ("make_minutes_partitions(date[])", "drop_minutes_partitions(date)")
SCOPE_FUNCTIONS = (
    "sees_incident(uuid)",
    "scope_stream()",
    "scope_accounts()",
    "scope_partner()",
    "scope_account()",
    "scope_value()",
    "scope_kind()",
)

# Wrapped in SELECT, a stable function is asked once a statement and not once a row.
KIND, ACCOUNTS, PARTNER = (
    "(SELECT scope_kind())",
    "ANY ((SELECT scope_accounts())::uuid[])",
    "(SELECT scope_partner())",
)
OPERATOR = f"{KIND} = 'operator'"
OWN = f"({OPERATOR} OR account_id = {ACCOUNTS})"
INGESTING = f"({OPERATOR} OR {KIND} = 'ingest' OR account_id = {ACCOUNTS})"
ANYONE = f"{KIND} IN ('operator', 'account', 'partner', 'ingest', 'public')"
OF_INCIDENT = "EXISTS (SELECT FROM incidents i WHERE i.id = incident_id)"
REACHED = (
    f"""EXISTS (SELECT FROM incident_accounts a WHERE a.incident_id = {{id}} AND a.account_id = {ACCOUNTS})"""
)
CONCERNED = (
    f"""EXISTS (SELECT FROM incident_partners p WHERE p.incident_id = {{id}} AND p.partner_id = {PARTNER})"""
)
SENDER = "scope = current_setting('vitals.scope', true)"
DECLARING = f"{KIND} IN ('operator', 'partner')"
AUTHENTICATING = f"({KIND} = 'auth' AND prefix = (SELECT scope_value()))"
HOLDER = f"({OPERATOR} OR account_id = {ACCOUNTS} OR partner_id = {PARTNER})"

# Per table: what the app role may read, insert, update and delete; None is no grant at all.
SECURITY: dict[str, tuple[str | None, str | None, str | None, str | None]] = {
    "accounts": (f"({OPERATOR} OR {KIND} = 'ingest' OR id = {ACCOUNTS})", OPERATOR, OPERATOR, None),
    "account_tree": (f"({OPERATOR} OR ancestor_id = (SELECT scope_account()))", OPERATOR, None, OPERATOR),
    "services": (ANYONE, OPERATOR, OPERATOR, None),
    "partners": (
        f"({KIND} IN ('operator', 'ingest') OR id = {PARTNER}"
        " OR EXISTS (SELECT FROM dependencies d WHERE d.partner_id = partners.id"
        f" AND d.account_id = {ACCOUNTS}))",
        OPERATOR,
        f"({OPERATOR} OR id = {PARTNER})",
        None,
    ),
    "dependencies": (OWN, OPERATOR, OPERATOR, OPERATOR),
    "series": (INGESTING, INGESTING, None, None),
    "sources": (SENDER, SENDER, None, None),
    "minutes": (OWN, None, None, None),
    "hours": (OWN, None, None, None),
    "dirty_hours": (OWN, None, None, None),
    "watermarks": (OWN, None, None, None),
    "ingest_batches": (SENDER, SENDER, None, None),
    "forecasts": (OWN, None, None, None),
    "jobs": (OWN, OWN, None, None),
    "account_watches": (OWN, None, None, None),
    "watches": (OWN, None, None, None),
    "anomalies": (OWN, None, None, None),
    "incidents": (
        f"({OPERATOR} OR {REACHED.format(id='incidents.id')} OR {CONCERNED.format(id='incidents.id')}"
        f" OR declared_by_id = {PARTNER} OR ({KIND} = 'public' AND is_public))",
        f"({OPERATOR} OR declared_by_id = {PARTNER})",
        f"({OPERATOR} OR {CONCERNED.format(id='incidents.id')})",
        None,
    ),
    "incident_updates": (OF_INCIDENT, f"({DECLARING} AND {OF_INCIDENT})", None, None),
    "incident_accounts": (OWN, None, None, None),
    "incident_partners": (
        f"({OPERATOR} OR partner_id = {PARTNER} OR {REACHED.format(id='incident_partners.incident_id')})",
        # A partner links itself to what it declared, and cannot look into an incident by joining it.
        f"({OPERATOR} OR (partner_id = {PARTNER} AND sees_incident(incident_id)))",
        None,
        None,
    ),
    "incident_services": (OF_INCIDENT, OPERATOR, None, None),
    "insights": (OWN, None, OWN, None),
    "api_keys": (f"({HOLDER} OR {AUTHENTICATING})", HOLDER, f"({HOLDER} OR {AUTHENTICATING})", None),
    "audit_log": (OPERATOR, f"{KIND} IS NOT NULL", None, None),
    "idempotency_keys": (
        "split_part(subject, ' ', 1) = current_setting('vitals.scope', true)",
        "split_part(subject, ' ', 1) = current_setting('vitals.scope', true)",
        None,
        None,
    ),
    "events": (
        f"({OPERATOR} OR EXISTS (SELECT FROM stream_events s WHERE s.event_id = events.id))",
        f"{KIND} IS NOT NULL",
        None,
        None,
    ),
    "streams": ("name = (SELECT scope_stream())", None, None, None),
    "stream_events": ("stream = (SELECT scope_stream())", None, None, None),
    "stream_consumers": (
        "stream = (SELECT scope_stream())",
        "stream = (SELECT scope_stream())",
        "stream = (SELECT scope_stream())",
        None,
    ),
    "status_snapshots": (
        f"({KIND} IN ('operator', 'ingest') OR partner_id = {PARTNER})",
        f"({KIND} IN ('operator', 'ingest') OR partner_id = {PARTNER})",
        None,
        None,
    ),
}


def secure() -> None:
    for function in FUNCTIONS:
        op.execute(function)
    for function in PARTITION_FUNCTIONS:
        op.execute(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC")
        op.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {WORKER}")
    for table, (read, insert, update, delete) in SECURITY.items():
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
    # COPY is refused on tables with row security: the log has none, and the app can only append to it.
    op.execute(f"GRANT INSERT ON ingest_log TO {APP}")
    op.execute(f"GRANT SELECT, UPDATE, DELETE ON ingest_log TO {WORKER}")


def unsecure() -> None:
    """Policies refer to other tables and to the functions: they go first."""
    for table, clauses in SECURITY.items():
        op.execute(f"DROP POLICY worker ON {table}")
        for verb, clause in zip(("select", "insert", "update", "delete"), clauses, strict=True):
            if clause:
                op.execute(f"DROP POLICY app_{verb} ON {table}")
    for function in (*PARTITION_FUNCTIONS, *SCOPE_FUNCTIONS):
        op.execute(f"DROP FUNCTION {function}")


def upgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    op.create_table(
        "accounts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("country", sa.String(length=2), nullable=False),
        sa.Column("currency", sa.String(length=3), nullable=False),
        sa.Column("time_zone", sa.Text(), nullable=False),
        sa.Column("merchant_category_code", sa.String(length=4), nullable=True),
        sa.Column("parent_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["parent_id"], ["accounts.id"], name=op.f("fk_accounts_parent_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_accounts")),
        sa.UniqueConstraint("external_id", name=op.f("uq_accounts_external_id")),
    )
    op.create_index(op.f("ix_accounts_name_id"), "accounts", ["name", "id"], unique=False)
    op.create_index(op.f("ix_accounts_parent_id"), "accounts", ["parent_id"], unique=False)
    op.create_table(
        "audit_log",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_log")),
    )
    op.create_index(op.f("ix_audit_log_at_id"), "audit_log", ["at", "id"], unique=False)
    op.create_table(
        "dirty_hours",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "at", name=op.f("pk_dirty_hours")),
    )
    op.create_table(
        "events",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("position", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("payload", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("dispatched_at", sa.DateTime(timezone=True), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_events")),
        sa.UniqueConstraint("position", name=op.f("uq_events_position")),
    )
    op.create_index("ix_events_subject_id", "events", ["subject_id", "position"], unique=False)
    op.create_index(
        "ix_events_undispatched",
        "events",
        ["position"],
        unique=False,
        postgresql_where=sa.text("dispatched_at IS NULL"),
    )
    op.create_index(
        "ix_events_unpublished",
        "events",
        ["position"],
        unique=False,
        postgresql_where=sa.text("published_at IS NULL"),
    )
    op.create_table(
        "hours",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "series_id", "at", name=op.f("pk_hours")),
    )
    op.create_table(
        "idempotency_keys",
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("input_hash", sa.LargeBinary(), nullable=False),
        sa.Column("object_id", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("subject", "key", name=op.f("pk_idempotency_keys")),
    )
    op.create_index(op.f("ix_idempotency_keys_created_at"), "idempotency_keys", ["created_at"], unique=False)
    op.create_table(
        "incidents",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "AUTHORIZATION_RATE_DROP",
                "TRAFFIC_VOLUME_DROP",
                "METRIC_ANOMALY",
                "COMPONENT_STATUS",
                "SCHEDULED_MAINTENANCE",
                name="healthkind",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "INVESTIGATING",
                "IDENTIFIED",
                "MONITORING",
                "RESOLVED",
                "POSTMORTEM",
                "SCHEDULED",
                "IN_PROGRESS",
                "VERIFYING",
                "COMPLETED",
                name="incidentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column(
            "impact",
            sa.Enum(
                "NONE",
                "MINOR",
                "MAJOR",
                "CRITICAL",
                "MAINTENANCE",
                name="impact",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column(
            "severity",
            sa.Enum("CRITICAL", "NON_CRITICAL", name="severity", native_enum=False, length=60),
            nullable=False,
        ),
        sa.Column(
            "origin",
            sa.Enum("DETECTED", "DECLARED", "STATUS_PAGE", name="origin", native_enum=False, length=60),
            nullable=False,
        ),
        sa.Column("grouping_key", sa.Text(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column("source_url", sa.Text(), nullable=True),
        sa.Column("is_public", sa.Boolean(), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("monitoring_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column(
            "resolution",
            sa.Enum("OBSERVED", "DECLARED", "INFERRED", name="resolution", native_enum=False, length=60),
            nullable=True,
        ),
        sa.Column("scheduled_for", sa.DateTime(timezone=True), nullable=True),
        sa.Column("scheduled_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_update_by", sa.DateTime(timezone=True), nullable=True),
        sa.Column("declared_by_id", sa.Uuid(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incidents")),
        sa.UniqueConstraint("external_id", name=op.f("uq_incidents_external_id")),
    )
    op.create_index(op.f("ix_incidents_started_at_id"), "incidents", ["started_at", "id"], unique=False)
    op.create_index(
        "uq_incidents_live",
        "incidents",
        ["grouping_key"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "ingest_batches",
        sa.Column("key", sa.LargeBinary(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("reply", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_ingest_batches")),
    )
    op.create_index(op.f("ix_ingest_batches_received_at"), "ingest_batches", ["received_at"], unique=False)
    op.create_table(
        "ingest_log",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("backfill", sa.Boolean(), nullable=False),
        sa.Column("points", sa.Integer(), nullable=False),
        sa.Column("columns", sa.LargeBinary(), nullable=False),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_ingest_log")),
    )
    op.create_table(
        "minutes",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account_id", "series_id", "at", "source_id", name=op.f("pk_minutes")),
        postgresql_partition_by="RANGE (at)",
    )
    op.create_table(
        "partners",
        sa.Column(
            "kind",
            sa.Enum(
                "CARD_NETWORK",
                "ISSUER",
                "ACQUIRER",
                "BANK",
                "PROCESSOR",
                "WALLET",
                "OTHER",
                name="partnerkind",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("regions", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("status_page_url", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "OPERATIONAL",
                "UNDER_MAINTENANCE",
                "DEGRADED_PERFORMANCE",
                "PARTIAL_OUTAGE",
                "MAJOR_OUTAGE",
                name="componentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("status_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "declared_status",
            sa.Enum(
                "OPERATIONAL",
                "UNDER_MAINTENANCE",
                "DEGRADED_PERFORMANCE",
                "PARTIAL_OUTAGE",
                "MAJOR_OUTAGE",
                name="componentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=True,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_partners")),
        sa.UniqueConstraint("code", name=op.f("uq_partners_code")),
    )
    op.create_table(
        "services",
        sa.Column("description", sa.Text(), nullable=True),
        sa.Column("group", sa.Text(), nullable=True),
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("code", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "OPERATIONAL",
                "UNDER_MAINTENANCE",
                "DEGRADED_PERFORMANCE",
                "PARTIAL_OUTAGE",
                "MAJOR_OUTAGE",
                name="componentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("status_since", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "declared_status",
            sa.Enum(
                "OPERATIONAL",
                "UNDER_MAINTENANCE",
                "DEGRADED_PERFORMANCE",
                "PARTIAL_OUTAGE",
                "MAJOR_OUTAGE",
                name="componentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=True,
        ),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_services")),
        sa.UniqueConstraint("code", name=op.f("uq_services_code")),
    )
    op.create_table(
        "sources",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("scope", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sources")),
        sa.UniqueConstraint("scope", "name", name=op.f("uq_sources_scope_name")),
    )
    op.create_table(
        "streams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("last_sequence", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_streams")),
    )
    op.create_table(
        "account_tree",
        sa.Column("ancestor_id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_tree_account_id")),
        sa.ForeignKeyConstraint(["ancestor_id"], ["accounts.id"], name=op.f("fk_account_tree_ancestor_id")),
        sa.PrimaryKeyConstraint("ancestor_id", "account_id", name=op.f("pk_account_tree")),
    )
    op.create_index(op.f("ix_account_tree_account_id"), "account_tree", ["account_id"], unique=False)
    op.create_table(
        "account_watches",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("judged_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("judged_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("state", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_account_watches_account_id")),
        sa.PrimaryKeyConstraint("account_id", name=op.f("pk_account_watches")),
    )
    op.create_table(
        "api_keys",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("prefix", sa.Text(), nullable=False),
        sa.Column("secret_hash", sa.LargeBinary(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "MERCHANT",
                "PARTNER",
                "OPERATOR",
                "INGEST",
                name="principalkind",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("account_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("scopes", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(kind = 'MERCHANT') = (account_id IS NOT NULL)"
            " AND (kind = 'PARTNER') = (partner_id IS NOT NULL)",
            name=op.f("ck_api_keys_owner"),
        ),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_api_keys_account_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_api_keys_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_keys")),
        sa.UniqueConstraint("prefix", name=op.f("uq_api_keys_prefix")),
    )
    op.create_table(
        "dependencies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("service_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("traffic_share", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "(service_id IS NULL) <> (partner_id IS NULL)", name=op.f("ck_dependencies_one_component")
        ),
        sa.CheckConstraint("traffic_share BETWEEN 0 AND 1", name=op.f("ck_dependencies_share")),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_dependencies_account_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_dependencies_partner_id")),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("fk_dependencies_service_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dependencies")),
    )
    op.create_index(op.f("ix_dependencies_partner_id"), "dependencies", ["partner_id"], unique=False)
    op.create_index(op.f("ix_dependencies_service_id"), "dependencies", ["service_id"], unique=False)
    op.create_index(
        "uq_dependencies_partner",
        "dependencies",
        ["account_id", "partner_id"],
        unique=True,
        postgresql_where=sa.text("partner_id IS NOT NULL"),
    )
    op.create_index(
        "uq_dependencies_service",
        "dependencies",
        ["account_id", "service_id"],
        unique=True,
        postgresql_where=sa.text("service_id IS NOT NULL"),
    )
    op.create_table(
        "incident_accounts",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("reached_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("traffic_share", sa.Double(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("money_low", sa.BigInteger(), nullable=True),
        sa.Column("money_mid", sa.BigInteger(), nullable=True),
        sa.Column("money_high", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["account_id"], ["accounts.id"], name=op.f("fk_incident_accounts_account_id")
        ),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_accounts_incident_id")
        ),
        sa.PrimaryKeyConstraint("account_id", "incident_id", name=op.f("pk_incident_accounts")),
    )
    op.create_index(
        op.f("ix_incident_accounts_incident_id"), "incident_accounts", ["incident_id"], unique=False
    )
    op.create_table(
        "incident_partners",
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_partners_incident_id")
        ),
        sa.ForeignKeyConstraint(
            ["partner_id"], ["partners.id"], name=op.f("fk_incident_partners_partner_id")
        ),
        sa.PrimaryKeyConstraint("partner_id", "incident_id", name=op.f("pk_incident_partners")),
    )
    op.create_index(
        op.f("ix_incident_partners_incident_id"), "incident_partners", ["incident_id"], unique=False
    )
    op.create_table(
        "incident_services",
        sa.Column("service_id", sa.Uuid(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_services_incident_id")
        ),
        sa.ForeignKeyConstraint(
            ["service_id"], ["services.id"], name=op.f("fk_incident_services_service_id")
        ),
        sa.PrimaryKeyConstraint("service_id", "incident_id", name=op.f("pk_incident_services")),
    )
    op.create_index(
        op.f("ix_incident_services_incident_id"), "incident_services", ["incident_id"], unique=False
    )
    op.create_table(
        "incident_updates",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=False),
        sa.Column("external_id", sa.Text(), nullable=True),
        sa.Column(
            "status",
            sa.Enum(
                "INVESTIGATING",
                "IDENTIFIED",
                "MONITORING",
                "RESOLVED",
                "POSTMORTEM",
                "SCHEDULED",
                "IN_PROGRESS",
                "VERIFYING",
                "COMPLETED",
                name="incidentstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("display_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "author_kind",
            sa.Enum(
                "PERSON",
                "API_KEY",
                "DETECTOR",
                "STATUS_PAGE",
                "SYSTEM",
                name="actorkind",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("author_name", sa.Text(), nullable=False),
        sa.Column("affected_components", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(
            ["incident_id"], ["incidents.id"], name=op.f("fk_incident_updates_incident_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_incident_updates")),
        sa.UniqueConstraint(
            "incident_id", "external_id", name=op.f("uq_incident_updates_incident_id_external_id")
        ),
    )
    op.create_index(
        op.f("ix_incident_updates_incident_id_display_at_id"),
        "incident_updates",
        ["incident_id", "display_at", "id"],
        unique=False,
    )
    op.create_table(
        "insights",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("finding_key", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "AUTHORIZATION_RATE_DROP",
                "TRAFFIC_VOLUME_DROP",
                "PARTNER_INCIDENT",
                "DECLINE_CODE_MIX_SHIFT",
                name="insightkind",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column(
            "status",
            sa.Enum(
                "NEW",
                "SEEN",
                "ACCEPTED",
                "APPLIED",
                "DISMISSED",
                "EXPIRED",
                name="insightstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column(
            "severity",
            sa.Enum("CRITICAL", "NON_CRITICAL", name="severity", native_enum=False, length=60),
            nullable=False,
        ),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=True),
        sa.Column("service_id", sa.Uuid(), nullable=True),
        sa.Column("partner_id", sa.Uuid(), nullable=True),
        sa.Column("evidence", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("recommended_actions", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("impact_low", sa.BigInteger(), nullable=True),
        sa.Column("impact_mid", sa.BigInteger(), nullable=True),
        sa.Column("impact_high", sa.BigInteger(), nullable=True),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("confidence", sa.Double(), nullable=False),
        sa.Column("rank", sa.Double(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("assignee", sa.Text(), nullable=True),
        sa.Column(
            "dismissal_reason",
            sa.Enum(
                "NOT_RELEVANT",
                "ALREADY_KNOWN",
                "WRONG",
                "TOO_SMALL",
                "EXPECTED",
                name="dismissalreason",
                native_enum=False,
                length=60,
            ),
            nullable=True,
        ),
        sa.Column("dismissal_note", sa.Text(), nullable=True),
        sa.Column("applied_action", sa.Text(), nullable=True),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_insights_account_id")),
        sa.ForeignKeyConstraint(["incident_id"], ["incidents.id"], name=op.f("fk_insights_incident_id")),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_insights_partner_id")),
        sa.ForeignKeyConstraint(["service_id"], ["services.id"], name=op.f("fk_insights_service_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_insights")),
        sa.UniqueConstraint("account_id", "finding_key", name=op.f("uq_insights_account_id_finding_key")),
    )
    op.create_index(
        op.f("ix_insights_account_id_created_at_id"),
        "insights",
        ["account_id", "created_at", "id"],
        unique=False,
    )
    op.create_index(
        op.f("ix_insights_account_id_rank_id"), "insights", ["account_id", "rank", "id"], unique=False
    )
    op.create_index(op.f("ix_insights_incident_id"), "insights", ["incident_id"], unique=False)
    op.create_table(
        "series",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("labels", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("is_measured", sa.Boolean(), nullable=False),
        sa.Column("fingerprint", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_series_account_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_series")),
        sa.UniqueConstraint("account_id", "fingerprint", name=op.f("uq_series_account_id_fingerprint")),
    )
    op.create_index(
        op.f("ix_series_account_id_metric_id"), "series", ["account_id", "metric", "id"], unique=False
    )
    op.create_table(
        "status_snapshots",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("partner_id", sa.Uuid(), nullable=False),
        sa.Column("observed_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("body_hash", sa.LargeBinary(), nullable=False),
        sa.Column("summary", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("applied_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["partner_id"], ["partners.id"], name=op.f("fk_status_snapshots_partner_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_status_snapshots")),
        sa.UniqueConstraint(
            "partner_id", "observed_at", name=op.f("uq_status_snapshots_partner_id_observed_at")
        ),
    )
    op.create_index(
        "ix_status_snapshots_waiting",
        "status_snapshots",
        ["partner_id", "observed_at"],
        unique=False,
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.create_table(
        "stream_events",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("event_id", sa.Uuid(), nullable=False),
        sa.Column("subject_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("sequenced_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["event_id"], ["events.id"], name=op.f("fk_stream_events_event_id")),
        sa.ForeignKeyConstraint(["stream"], ["streams.name"], name=op.f("fk_stream_events_stream")),
        sa.PrimaryKeyConstraint("stream", "sequence", name=op.f("pk_stream_events")),
        sa.UniqueConstraint("event_id", "stream", name=op.f("uq_stream_events_event_id_stream")),
        sa.UniqueConstraint(
            "stream", "subject_id", "version", name=op.f("uq_stream_events_stream_subject_id_version")
        ),
    )
    op.create_table(
        "stream_consumers",
        sa.Column("stream", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("acknowledged_sequence", sa.BigInteger(), nullable=False),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("stream", "name", name=op.f("pk_stream_consumers")),
    )
    op.create_table(
        "watermarks",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("source_id", sa.Uuid(), nullable=False),
        sa.Column("oldest_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("newest_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_watermarks_account_id")),
        sa.ForeignKeyConstraint(["source_id"], ["sources.id"], name=op.f("fk_watermarks_source_id")),
        sa.PrimaryKeyConstraint("account_id", "source_id", name=op.f("pk_watermarks")),
    )
    op.create_table(
        "anomalies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("incident_id", sa.Uuid(), nullable=True),
        sa.Column(
            "phase",
            sa.Enum(
                "LEARNING",
                "NORMAL",
                "PENDING",
                "FIRING",
                "RECOVERING",
                "CLOSED",
                name="phase",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column(
            "direction",
            sa.Enum("UP", "DOWN", "MISSING", name="direction", native_enum=False, length=60),
            nullable=False,
        ),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("detected_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("ended_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("observed", sa.Double(), nullable=False),
        sa.Column("expected", sa.Double(), nullable=False),
        sa.Column("lower", sa.Double(), nullable=False),
        sa.Column("upper", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("sample_size", sa.BigInteger(), nullable=False),
        sa.Column("detector", sa.Text(), nullable=False),
        sa.Column("cause", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("shortfall", sa.Double(), nullable=False),
        sa.Column("shortfall_variance", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_anomalies_account_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_anomalies_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_anomalies")),
    )
    op.create_index(
        op.f("ix_anomalies_account_id_series_id_started_at"),
        "anomalies",
        ["account_id", "series_id", "started_at"],
        unique=False,
    )
    op.create_index(op.f("ix_anomalies_incident_id"), "anomalies", ["incident_id"], unique=False)
    op.create_table(
        "forecasts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("fitted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trained_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("trained_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("start", sa.DateTime(timezone=True), nullable=False),
        sa.Column("yhat", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("yhat_lower80", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("yhat_upper80", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("yhat_lower95", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("yhat_upper95", postgresql.ARRAY(sa.Double()), nullable=False),
        sa.Column("remarks", postgresql.ARRAY(sa.Text()), nullable=False),
        sa.Column("settings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_forecasts_account_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_forecasts_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_forecasts")),
        sa.UniqueConstraint(
            "account_id",
            "series_id",
            "trained_until",
            name=op.f("uq_forecasts_account_id_series_id_trained_until"),
        ),
    )
    op.create_index(op.f("ix_forecasts_series_id"), "forecasts", ["series_id"], unique=False)
    op.create_table(
        "jobs",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Enum("FORECAST", name="jobkind", native_enum=False, length=60), nullable=False),
        sa.Column(
            "status",
            sa.Enum(
                "QUEUED",
                "RUNNING",
                "SUCCEEDED",
                "FAILED",
                "CANCELLED",
                name="jobstatus",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("trained_until", sa.DateTime(timezone=True), nullable=False),
        sa.Column("horizon_hours", sa.Integer(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("started_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_jobs_account_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_jobs_series_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_jobs")),
    )
    op.create_index(
        op.f("ix_jobs_account_id_trained_until"), "jobs", ["account_id", "trained_until"], unique=False
    )
    op.create_index(
        "ix_jobs_open", "jobs", ["created_at"], unique=False, postgresql_where=sa.text("finished_at IS NULL")
    )
    op.create_index(
        "uq_jobs_open",
        "jobs",
        ["series_id", "trained_until"],
        unique=True,
        postgresql_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "watches",
        sa.Column("account_id", sa.Uuid(), nullable=False),
        sa.Column("series_id", sa.Uuid(), nullable=False),
        sa.Column(
            "phase",
            sa.Enum(
                "LEARNING",
                "NORMAL",
                "PENDING",
                "FIRING",
                "RECOVERING",
                "CLOSED",
                name="phase",
                native_enum=False,
                length=60,
            ),
            nullable=False,
        ),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.Column("remark", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_watches_account_id")),
        sa.ForeignKeyConstraint(["series_id"], ["series.id"], name=op.f("fk_watches_series_id")),
        sa.PrimaryKeyConstraint("account_id", "series_id", name=op.f("pk_watches")),
    )
    op.create_foreign_key(
        op.f("fk_incidents_declared_by_id"), "incidents", "partners", ["declared_by_id"], ["id"]
    )
    secure()


def downgrade() -> None:
    op.execute("SET LOCAL lock_timeout = '1s'")
    unsecure()
    op.drop_constraint(op.f("fk_incidents_declared_by_id"), "incidents", type_="foreignkey")
    op.drop_table("watches")
    op.drop_index("uq_jobs_open", table_name="jobs", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_index("ix_jobs_open", table_name="jobs", postgresql_where=sa.text("finished_at IS NULL"))
    op.drop_index(op.f("ix_jobs_account_id_trained_until"), table_name="jobs")
    op.drop_table("jobs")
    op.drop_index(op.f("ix_forecasts_series_id"), table_name="forecasts")
    op.drop_table("forecasts")
    op.drop_index(op.f("ix_anomalies_incident_id"), table_name="anomalies")
    op.drop_index(op.f("ix_anomalies_account_id_series_id_started_at"), table_name="anomalies")
    op.drop_table("anomalies")
    op.drop_table("watermarks")
    op.drop_table("stream_consumers")
    op.drop_table("stream_events")
    op.drop_index(
        "ix_status_snapshots_waiting",
        table_name="status_snapshots",
        postgresql_where=sa.text("applied_at IS NULL"),
    )
    op.drop_table("status_snapshots")
    op.drop_index(op.f("ix_series_account_id_metric_id"), table_name="series")
    op.drop_table("series")
    op.drop_index(op.f("ix_insights_incident_id"), table_name="insights")
    op.drop_index(op.f("ix_insights_account_id_rank_id"), table_name="insights")
    op.drop_index(op.f("ix_insights_account_id_created_at_id"), table_name="insights")
    op.drop_table("insights")
    op.drop_index(op.f("ix_incident_updates_incident_id_display_at_id"), table_name="incident_updates")
    op.drop_table("incident_updates")
    op.drop_index(op.f("ix_incident_services_incident_id"), table_name="incident_services")
    op.drop_table("incident_services")
    op.drop_index(op.f("ix_incident_partners_incident_id"), table_name="incident_partners")
    op.drop_table("incident_partners")
    op.drop_index(op.f("ix_incident_accounts_incident_id"), table_name="incident_accounts")
    op.drop_table("incident_accounts")
    op.drop_index(
        "uq_dependencies_service",
        table_name="dependencies",
        postgresql_where=sa.text("service_id IS NOT NULL"),
    )
    op.drop_index(
        "uq_dependencies_partner",
        table_name="dependencies",
        postgresql_where=sa.text("partner_id IS NOT NULL"),
    )
    op.drop_index(op.f("ix_dependencies_service_id"), table_name="dependencies")
    op.drop_index(op.f("ix_dependencies_partner_id"), table_name="dependencies")
    op.drop_table("dependencies")
    op.drop_table("api_keys")
    op.drop_table("account_watches")
    op.drop_index(op.f("ix_account_tree_account_id"), table_name="account_tree")
    op.drop_table("account_tree")
    op.drop_table("streams")
    op.drop_table("sources")
    op.drop_table("services")
    op.drop_table("partners")
    op.drop_table("minutes")
    op.drop_table("ingest_log")
    op.drop_index(op.f("ix_ingest_batches_received_at"), table_name="ingest_batches")
    op.drop_table("ingest_batches")
    op.drop_index(
        "uq_incidents_live", table_name="incidents", postgresql_where=sa.text("resolved_at IS NULL")
    )
    op.drop_index(op.f("ix_incidents_started_at_id"), table_name="incidents")
    op.drop_table("incidents")
    op.drop_index(op.f("ix_idempotency_keys_created_at"), table_name="idempotency_keys")
    op.drop_table("idempotency_keys")
    op.drop_table("hours")
    op.drop_index(
        "ix_events_undispatched", table_name="events", postgresql_where=sa.text("dispatched_at IS NULL")
    )
    op.drop_index(
        "ix_events_unpublished", table_name="events", postgresql_where=sa.text("published_at IS NULL")
    )
    op.drop_index("ix_events_subject_id", table_name="events")
    op.drop_table("events")
    op.drop_table("dirty_hours")
    op.drop_index(op.f("ix_audit_log_at_id"), table_name="audit_log")
    op.drop_table("audit_log")
    op.drop_index(op.f("ix_accounts_parent_id"), table_name="accounts")
    op.drop_index(op.f("ix_accounts_name_id"), table_name="accounts")
    op.drop_table("accounts")

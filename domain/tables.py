"""Every table of every slice, and where its rows lie once one Postgres is not enough (docs/citus.md)."""

from domain.access import models as _access
from domain.anomalies import models as _anomalies
from domain.catalog import models as _catalog
from domain.core.events import Event
from domain.core.model import Base
from domain.delivery import models as _delivery
from domain.forecasts import models as _forecasts
from domain.incidents import models as _incidents
from domain.insights import models as _insights
from domain.statuspages import models as _statuspages
from domain.stripe import models as _stripe
from domain.telemetry import models as _telemetry

metadata = Base.metadata

DISTRIBUTED = frozenset(
    {
        "account_series",
        "account_watches",
        "anomalies",
        "chunks",
        "dirty_windows",
        "forecasts",
        "insights",
        "jobs",
        "last_readings",
        "minutes",
        "rollups",
        "series",
        "shard_days",
        "watches",
        "watermarks",
    }
)
"""Spread over the nodes by `account_id`; the rows of one account lie together, of all of these tables."""

REFERENCE = frozenset(
    {
        "account_tree",
        "accounts",
        "dependencies",
        "incident_accounts",
        "incident_partners",
        "incidents",
        "partners",
        "services",
        "sources",
    }
)
"""Whole on every node: distributed rows, or the policies of these tables, refer to them."""

LOCAL = frozenset(
    {
        "api_keys",
        "audit_log",
        "events",
        "idempotency_keys",
        "incident_services",
        "incident_updates",
        "ingest_batches",
        "ingest_log",
        "status_snapshots",
        "stream_consumers",
        "stream_events",
        "streams",
        "stripe_accounts",
        "stripe_endpoints",
        "stripe_events",
    }
)
"""On the coordinator alone."""

__all__ = [
    "DISTRIBUTED",
    "LOCAL",
    "REFERENCE",
    "Event",
    "_access",
    "_anomalies",
    "_catalog",
    "_delivery",
    "_forecasts",
    "_incidents",
    "_insights",
    "_statuspages",
    "_stripe",
    "_telemetry",
    "metadata",
]

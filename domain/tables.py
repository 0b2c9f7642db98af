"""Every table of every slice, for migrations and structural tests."""

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
from domain.telemetry import models as _telemetry

metadata = Base.metadata

__all__ = [
    "Event",
    "_access",
    "_anomalies",
    "_catalog",
    "_delivery",
    "_forecasts",
    "_incidents",
    "_insights",
    "_statuspages",
    "_telemetry",
    "metadata",
]

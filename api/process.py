"""What the requests of one API process share. It belongs to the event loop that serves them."""

from dataclasses import dataclass

from api.auth import KnownKeys
from api.metrics import Metrics
from api.wakes import Wakes
from domain.core.db import Database
from domain.core.settings import APP, Settings
from domain.telemetry.series import Registry


@dataclass(frozen=True)
class Process:
    settings: Settings
    db: Database
    keys: KnownKeys
    registry: Registry
    wakes: Wakes
    metrics: Metrics

    @classmethod
    def start(cls, settings: Settings) -> "Process":
        db = Database(settings.database_url, APP)
        wakes = Wakes(settings.direct_database_url, APP)
        wakes.start()
        return cls(settings, db, KnownKeys(db), Registry(db), wakes, Metrics())

    async def stop(self) -> None:
        await self.wakes.stop()
        await self.db.dispose()

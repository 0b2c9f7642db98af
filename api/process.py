"""What the requests of one API process share. It belongs to the event loop that serves them."""

from dataclasses import dataclass

from api.auth import KnownKeys
from api.metrics import Metrics
from api.wakes import Wakes
from domain.core.db import Database
from domain.core.settings import APP, Settings
from domain.stripe.service import Receiver
from domain.telemetry.ingest import Intake


@dataclass(frozen=True)
class Process:
    settings: Settings
    db: Database
    keys: KnownKeys
    intake: Intake
    stripe: Receiver
    wakes: Wakes
    metrics: Metrics

    @classmethod
    def start(cls, settings: Settings) -> "Process":
        db = Database(settings.database_url, APP)
        metrics = Metrics()
        # What is taken in does not wait for a connection behind what is asked.
        intake = Intake(Database(settings.database_url, APP), settings, metrics)
        intake.start()
        stripe = Receiver(db, settings)
        stripe.admission.start()
        wakes = Wakes(settings.direct_database_url, APP)
        wakes.start()
        return cls(settings, db, KnownKeys(db), intake, stripe, wakes, metrics)

    async def stop(self) -> None:
        await self.intake.stop()
        await self.stripe.admission.stop()
        await self.wakes.stop()
        await self.intake.db.dispose()
        await self.db.dispose()

    def measure(self) -> None:
        """Bring the gauges up to date."""
        admission = self.intake.admission
        self.metrics.set("vitals_listening", float(self.wakes.is_listening))
        self.metrics.set("vitals_ingest_requests", admission.requests)
        self.metrics.set("vitals_ingest_bytes", admission.bytes)
        self.metrics.set("vitals_ingest_queue", self.intake.flusher.waiting)

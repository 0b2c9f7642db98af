"""Settings: read once from the environment by each process, then passed in."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

OWNER, APP, WORKER, BACKUP = "vitals_owner", "vitals_app", "vitals_worker", "vitals_backup"


class Settings(BaseSettings):
    """`DATABASE_URL`, `BROKER_URL`, `PORT`, and all others with the prefix `VITALS_`."""

    model_config = SettingsConfigDict(env_prefix="VITALS_", frozen=True, extra="ignore")

    database_url: str = Field(
        default="postgresql://vitals_app@127.0.0.1:5432/vitals", validation_alias="DATABASE_URL"
    )
    worker_database_url: str = ""
    owner_database_url: str = ""
    direct_database_url: str = ""
    broker_url: str = Field(default="redis://127.0.0.1:6379/0", validation_alias="BROKER_URL")
    port: int = Field(default=8000, validation_alias="PORT")
    data: Path = Path(".local")
    rate_limit: Literal["on", "off"] = "on"
    secret_keys: SecretStr = SecretStr("")
    """Keys that seal secrets at rest, with commas between: the first seals, all of them open."""
    stripe_secrets: SecretStr = SecretStr("")
    """Signing secrets of the platform's webhook, with commas between."""
    stripe_api_key: SecretStr = SecretStr("")
    stripe_host: str = "https://api.stripe.com"
    stripe_version: str = "2025-09-30.clover"
    most_series: int = Field(default=100_000, ge=1)
    """Measured series that an account may have."""
    most_sources: int = Field(default=10_000, ge=1)
    """Sources that the senders of one scope may have."""
    ingest_waiting: int = Field(default=64 * 1024 * 1024, ge=1)
    """Bytes of bodies that one API process has in work at once."""
    ingest_most_lag: int = Field(default=3_600, ge=1)
    """Seconds that an acknowledged point may wait to be folded before no more are taken."""

    keep_minutes: int = Field(default=90, ge=1)
    """Days that each minute is kept; points may be as old."""
    keep_five_minutes: int = Field(default=400, ge=1)
    keep_hours: int = Field(default=1_200, ge=1)
    keep_days: int = Field(default=3_650, ge=1)

    def model_post_init(self, context: Any) -> None:
        """A URL that is not given is the app's: the connection then takes the other role by SET ROLE."""
        for name in ("worker_database_url", "owner_database_url", "direct_database_url"):
            if not getattr(self, name):
                self.__dict__[name] = self.database_url

    @model_validator(mode="after")
    def _keep_finer_shorter(self) -> "Settings":
        """A rollup is made of finer ones, and must not be made anew of a part of them."""
        kept = [self.keep_minutes, self.keep_five_minutes, self.keep_hours, self.keep_days]
        if kept != sorted(kept):
            raise ValueError("VITALS_KEEP_MINUTES, _FIVE_MINUTES, _HOURS and _DAYS must rise in this order")
        return self

    @classmethod
    def load(cls) -> "Settings":
        return cls()


def migrations_dir() -> Path:
    """`alembic/` in a checkout, `domain/_migrations` in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parent / "alembic"

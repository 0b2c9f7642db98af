"""Settings: read once from the environment by each process, then passed in."""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field
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

    def model_post_init(self, context: Any) -> None:
        """A URL that is not given is the app's: the connection then takes the other role by SET ROLE."""
        for name in ("worker_database_url", "owner_database_url", "direct_database_url"):
            if not getattr(self, name):
                self.__dict__[name] = self.database_url

    @classmethod
    def load(cls) -> "Settings":
        return cls()


def migrations_dir() -> Path:
    """`alembic/` in a checkout, `domain/_migrations` in an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    packed = package / "_migrations"
    return packed if packed.is_dir() else package.parent / "alembic"

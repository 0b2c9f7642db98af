"""The bind parameters of the principal that `visible()` predicates are written with, never its values."""

from uuid import UUID

from sqlalchemy import BindParameter, Uuid, bindparam
from sqlalchemy.dialects.postgresql import ARRAY

ACCOUNT_IDS: BindParameter[list[UUID]] = bindparam(
    "principal_account_ids",
    type_=ARRAY(Uuid),  # type: ignore[arg-type]  # ARRAY is untyped in SQLAlchemy
)
PARTNER_ID: BindParameter[UUID] = bindparam("principal_partner_id", type_=Uuid)

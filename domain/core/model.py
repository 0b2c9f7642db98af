"""The base of all tables: naming of constraints, types of columns, UUIDv7 keys."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, Double, MetaData, Text, Uuid
from sqlalchemy import Enum as EnumType
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.orm import DeclarativeBase, mapped_column

from domain.core.ids import uuid7

Key = Annotated[UUID, mapped_column(primary_key=True, default=uuid7)]
Big = Annotated[int, mapped_column(BigInteger)]
Json = Annotated[dict[str, Any], mapped_column(JSONB)]
JsonList = Annotated[list[dict[str, Any]], mapped_column(JSONB)]


class Base(DeclarativeBase):
    """Times are timestamptz and aware; enums are stored by name, as text."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {
        datetime: DateTime(timezone=True),
        float: Double,
        list[float]: ARRAY(Double),
        list[str]: ARRAY(Text),
        str: Text,
        StrEnum: EnumType(StrEnum, native_enum=False, create_constraint=False, length=60),
        UUID: Uuid,
    }

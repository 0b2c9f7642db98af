"""What must hold for every type and field of the schema, whoever adds one."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from strawberry.types.base import StrawberryObjectDefinition, StrawberryOptional
from strawberry.types.field import StrawberryField

import domain.tables
from api.graphql import access, schema
from api.graphql.access import SCOPE_OF, Access, AccessDirective
from api.graphql.node import LOADER_OF
from domain.core.model import Base

SNAPSHOT = Path(schema.__file__).with_name("schema.graphql")
ROOTS = ("Query", "Mutation", "Subscription")
OPEN = {("Query", "viewer"), ("Query", "node"), ("Query", "nodes")}
OF_THE_VIEWER = {("Viewer", "account"), ("Viewer", "partner")}
TABLES = {mapper.class_.__name__: mapper.class_ for mapper in Base.registry.mappers}


def types() -> dict[str, StrawberryObjectDefinition]:
    assert domain.tables.metadata
    found = schema.schema.schema_converter.type_map
    return {
        name: concrete.definition
        for name, concrete in found.items()
        if isinstance(concrete.definition, StrawberryObjectDefinition) and not concrete.definition.is_input
    }


def scope_of(graphql_type: Any) -> str | None:
    """What it takes to be given what this field leads to, through its list or connection."""
    while hasattr(graphql_type, "of_type"):
        graphql_type = graphql_type.of_type
    name = graphql_type.name
    fields = getattr(graphql_type, "fields", {})
    if "edges" in fields:
        return scope_of(fields["edges"].type)
    if name.endswith("Edge"):
        return scope_of(fields["node"].type)
    return "status:read" if name == "Component" else SCOPE_OF.get(name)


def directives_of(field: StrawberryField) -> list[AccessDirective]:
    return [one for one in field.directives if isinstance(one, AccessDirective)]


FIELDS = [
    (name, schema.schema.config.name_converter.get_graphql_name(field), field)
    for name, definition in types().items()
    for field in definition.fields
]


def test_the_snapshot_is_the_schema() -> None:
    assert SNAPSHOT.read_text() == f"{schema.schema.as_str()}\n", (
        "run `make schema` and review the difference"
    )


def test_the_command_prints_the_schema_alone() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "api.graphql.schema"], capture_output=True, text=True, check=True
    )

    assert printed.stdout == SNAPSHOT.read_text()


def test_every_root_field_declares_its_scope() -> None:
    bare = {
        (type_name, name)
        for type_name, name, field in FIELDS
        if type_name in ROOTS and not directives_of(field)
    }

    assert bare == OPEN


@pytest.mark.parametrize(("type_name", "name", "field"), FIELDS)
def test_a_field_that_leads_to_other_objects_needs_their_scope(
    type_name: str, name: str, field: StrawberryField
) -> None:
    has = "status:read" if type_name == "Component" else SCOPE_OF.get(type_name)
    declared = {one.scope for one in directives_of(field)}
    leads_to = scope_of(schema.schema._schema.get_type(type_name).fields[name].type)  # type: ignore[union-attr]
    if has is None or leads_to in (None, has) or (type_name, name) in OPEN | OF_THE_VIEWER:
        return

    assert leads_to in declared


def test_what_is_printed_of_access_is_what_is_checked() -> None:
    for _, _, field in FIELDS:
        checked = [one for one in field.extensions if isinstance(one, Access)]
        assert [one.scope for one in checked] == [one.scope for one in directives_of(field)]
        for printed, one in zip(directives_of(field), checked, strict=True):
            assert (printed.principals or access.READERS) == one.principals


@pytest.mark.parametrize(
    ("model", "field"),
    [
        pytest.param(TABLES[type_name], field, id=f"{type_name}.{name}")
        for type_name, name, field in FIELDS
        if type_name in TABLES and field.base_resolver is None
    ],
)
def test_a_field_without_a_resolver_is_a_column_as_null_as_it_is(
    model: type[Base], field: StrawberryField
) -> None:
    column = model.__table__.c[field.python_name]

    assert column.nullable == isinstance(field.type, StrawberryOptional)


def test_every_node_can_be_fetched_by_its_id() -> None:
    nodes = {
        name
        for name, definition in types().items()
        if not definition.is_interface and any(one.name == "Node" for one in definition.interfaces)
    }

    assert nodes == set(LOADER_OF) == set(SCOPE_OF)


def test_every_refusal_of_a_result_can_be_told_apart_by_the_interface() -> None:
    for name, concrete in schema.schema._schema.type_map.items():
        if name.endswith("Result") and name != "JobResult":
            success, *refusals = concrete.types  # type: ignore[attr-defined]
            assert success.name.endswith("Success")
            assert all("Refusal" in [one.name for one in refusal.interfaces] for refusal in refusals)


def test_every_type_says_what_it_is() -> None:
    silent = {
        name
        for name, definition in types().items()
        if not definition.description and name not in ROOTS and name != "Subscription"
    }

    assert silent == set()

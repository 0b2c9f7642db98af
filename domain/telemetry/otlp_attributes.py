"""Attributes of OTLP: the account, the source and the labels that they tell of."""

from collections.abc import Iterable
from typing import Any

from domain.telemetry import points

PLACES = ("vitals.account", "vitals.service", "vitals.partner")

# A generated protobuf class or its twin in otlp_json: the same fields either way.
Message = Any
Texts = dict[str, str | None]


MAX_NEW = 10_000  # of a body: what was not seen before is read slowly
TOO_MANY = "is one of too many new series in a body: send it in parts"


class Refused(Exception):
    """A data point cannot be kept; the text continues the name of its metric."""


def of_owner(owner: Message) -> Texts:
    """Those of a resource or scope; none where there is no such thing."""
    return {} if owner is None else texts(owner.attributes or ())


def texts(attributes: Iterable[Message]) -> Texts:
    """Attributes as text by key; None for lists, maps and bytes, which have no plain form."""
    return {attribute.key or "": _text(attribute.value) for attribute in attributes}


def _text(value: Message) -> str | None:
    field = None if value is None else value.WhichOneof("value")
    if field == "string_value":
        return str(value.string_value)
    if field == "bool_value":
        return "true" if value.bool_value else "false"
    if field in ("int_value", "double_value"):
        return str(getattr(value, field))
    return "" if field is None else None


def placing(owner: Texts) -> Texts:
    """What an owner says of the points below it."""
    return {key: owner[key] for key in PLACES if key in owner}


def source(resource: Texts) -> str:
    """The instance that sends, or its service and host where it does not name itself."""
    if instance := resource.get("service.instance.id"):
        return instance
    return "/".join(filter(None, (resource.get("service.name"), resource.get("host.name"))))


def account(found: Texts) -> str:
    """The external id of the account. Raises Refused."""
    account = found.get("vitals.account")
    if not account:
        raise Refused("has no vitals.account attribute (text) on its resource, scope or point")
    return account


def labels(found: Texts) -> points.Labels:
    """The point's own attributes, and its service and partner under those names. Raises Refused."""
    plain: dict[str, str] = {}
    for key, text in found.items():
        name = key.removeprefix("vitals.")
        if key == "vitals.account":
            continue
        if key.startswith("vitals.") and key not in PLACES:
            raise Refused(f"has the unknown attribute {key[:64]}; known are {', '.join(PLACES)}")
        if text is None:
            raise Refused(f"labels.{name[:64]} must be text, a boolean or a number")
        if plain.get(name, text) != text:
            raise Refused(f"has two values for {name}, {plain[name][:64]} and {text[:64]}")
        plain[name] = text
    return points.labels(plain)

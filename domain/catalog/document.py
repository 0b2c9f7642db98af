"""The catalogue as people write it: one YAML document, or a CSV file for each kind, named for it.

All values are read as the text that is written, so that `NO` is a country and `0742` a code.
"""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import chain, count
from pathlib import Path
from typing import Any

import yaml

from domain.catalog.entries import KINDS, Catalogue, CatalogueRejected, Entry, Flaw, Problem
from domain.catalog.models import PartnerKind

_SUFFIXES = (".yaml", ".yml", ".csv")
_EXPECTED = {
    "kind": f"must be one of {', '.join(PartnerKind)}",
    "regions": "must be a list of texts",
    "traffic_share": "must be a number from 0 to 1",
}


@dataclass(frozen=True)
class _Row:
    """One entry as it was written; an empty value says the same as none."""

    kind: str
    place: str
    values: Mapping[str, str | list[str]]


def read(paths: Sequence[Path]) -> Catalogue:
    """What the files say together: YAML, CSV, or a directory of them. Raises CatalogueRejected."""
    files = chain.from_iterable(_files(path) if path.is_dir() else [path] for path in paths)
    return _catalogue(chain.from_iterable(_rows(file) for file in files))


def parse(text: str, *, name: str = "") -> Catalogue:
    """The catalogue of a YAML document; `name` is what its problems call it. Raises CatalogueRejected."""
    return _catalogue(_yaml_rows(text, name=name))


def render(catalogue: Catalogue) -> str:
    """The YAML document that says it; `parse` gives the same catalogue back."""
    document = {
        kind: [_written(entry) for entry in getattr(catalogue, kind)]
        for kind in KINDS
        if getattr(catalogue, kind)
    }
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _written(entry: Entry) -> dict[str, Any]:
    values = ((field.name, getattr(entry, field.name)) for field in fields(entry))
    return {
        name: list(value) if name == "regions" else str(value) if isinstance(value, str) else value
        for name, value in values
        if value is not None and value != ()
    }


def _files(directory: Path) -> list[Path]:
    found = sorted(path for path in directory.iterdir() if path.suffix.lower() in _SUFFIXES)
    if not found:
        raise _refusal(str(directory), f"holds no file whose name ends in {', '.join(_SUFFIXES)}")
    return found


def _rows(file: Path) -> Iterator[_Row]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise _refusal(str(file), f"is not UTF-8 at byte {error.start}") from error
    if file.suffix.lower() not in _SUFFIXES:
        raise _refusal(str(file), f"must have a name that ends in {', '.join(_SUFFIXES)}")
    if file.suffix.lower() == ".csv":
        return _csv_rows(text, kind=file.stem, name=file.name)
    return _yaml_rows(text, name=file.name)


def _csv_rows(text: str, *, kind: str, name: str) -> Iterator[_Row]:
    if kind not in KINDS:
        raise _refusal(name, f"must be named for what it holds: {', '.join(f'{one}.csv' for one in KINDS)}")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [column.strip() for column in next(reader, [])]
        if len(set(header)) < len(header):
            raise _refusal(f"{name} line 1", "must not name a column twice")
        place = f"{name} line {reader.line_num + 1}"
        for cells in reader:
            if len(cells) > len(header):
                raise _refusal(place, f"has {len(cells)} values for {len(header)} columns")
            if any(cells):
                yield _Row(kind, place, _csv_values(header, cells))
            place = f"{name} line {reader.line_num + 1}"
    except csv.Error as error:
        raise _refusal(f"{name} line {reader.line_num}", f"is not CSV: {error}") from error


def _csv_values(header: Sequence[str], cells: Sequence[str]) -> dict[str, str | list[str]]:
    """In the cell of a list its members stand between semicolons."""
    values: dict[str, str | list[str]] = {key: cell.strip() for key, cell in zip(header, cells, strict=False)}
    if isinstance(regions := values.get("regions"), str):
        values["regions"] = [part.strip() for part in regions.split(";") if part.strip()]
    return values


def _yaml_rows(text: str, *, name: str) -> Iterator[_Row]:
    root = _composed(text, name=name)
    for kind, entries in _pairs(root, name=name) if root else ():
        if kind not in KINDS:
            raise _refusal(_place(name, entries.start_mark), f"is not one of {', '.join(KINDS)}", kind)
        if _is_null(entries):
            continue
        if not isinstance(entries, yaml.SequenceNode):
            raise _refusal(_place(name, entries.start_mark), "must be a list", kind)
        for entry in entries.value:
            values = {key: _value(node, name=name) for key, node in _pairs(entry, name=name)}
            yield _Row(kind, _place(name, entry.start_mark), values)


def _composed(text: str, *, name: str) -> yaml.Node | None:
    """The nodes of the document, before YAML makes booleans and numbers of them."""
    try:
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _refusal(_place(name, error.problem_mark), f"is not YAML: {error.problem}") from error
    except yaml.YAMLError as error:
        raise _refusal(name, f"is not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise _refusal(name, "is nested too deeply") from error


def _pairs(node: yaml.Node, *, name: str) -> Iterator[tuple[str, yaml.Node]]:
    if not isinstance(node, yaml.MappingNode):
        raise _refusal(_place(name, node.start_mark), "must be a mapping of names to values")
    seen: set[str] = set()
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value in seen:
            raise _refusal(_place(name, key.start_mark), "must be a name, and one that is not given twice")
        seen.add(key.value)
        yield key.value, value


def _value(node: yaml.Node, *, name: str) -> str | list[str]:
    if isinstance(node, yaml.ScalarNode):
        return "" if _is_null(node) else str(node.value)
    if isinstance(node, yaml.SequenceNode) and all(isinstance(one, yaml.ScalarNode) for one in node.value):
        return [str(one.value) for one in node.value]
    raise _refusal(_place(name, node.start_mark), "must be a text or a list of texts")


def _is_null(node: yaml.Node) -> bool:
    return bool(node.tag == "tag:yaml.org,2002:null")


def _place(name: str, mark: Any) -> str:
    return " ".join(filter(None, (name, f"line {mark.line + 1}" if mark else "")))


def _refusal(place: str, message: str, kind: str = "") -> CatalogueRejected:
    return CatalogueRejected([Problem((kind,) if kind else (), message, place)])


def _catalogue(rows: Iterable[_Row]) -> Catalogue:
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    places: dict[tuple[str, ...], str] = {}
    problems: list[Problem] = []
    numbers = {kind: count() for kind in KINDS}
    for row in rows:
        path = (row.kind, str(next(numbers[row.kind])))
        places[path] = row.place
        values, flaws = _converted(row)
        if not flaws:
            entry = KINDS[row.kind](**values)
            found[row.kind].append(entry)
            flaws = list(entry.flaws())
        problems += [Problem((*path, field), message, row.place) for field, message in flaws]
    if problems:
        raise CatalogueRejected(problems)
    return Catalogue(**found, places=places)  # type: ignore[arg-type]  # each kind has its own entries


def _converted(row: _Row) -> tuple[dict[str, Any], list[Flaw]]:
    """The values that an entry is made of, and what is wrong with their names and forms."""
    known = {field.name: field for field in fields(KINDS[row.kind])}
    values: dict[str, Any] = {}
    flaws: list[Flaw] = []
    for name, value in row.values.items():
        if name not in known:
            flaws.append((name, f"is not a field; the fields are {', '.join(known)}"))
        elif value:
            try:
                values[name] = _typed(name, value)
            except ValueError:
                flaws.append((name, _EXPECTED.get(name, "must be a text")))
    given = {name for name, value in row.values.items() if value}
    required = [name for name, field in known.items() if field.default is MISSING]
    return values, flaws + [(name, "is missing") for name in required if name not in given]


def _typed(name: str, value: str | list[str]) -> Any:
    """Raises ValueError for what cannot be a value of the field of that name."""
    if name == "regions":
        return tuple(value) if isinstance(value, list) else (value,)
    if isinstance(value, list):
        raise ValueError(name)
    match name:
        case "kind":
            return PartnerKind(value.upper())
        case "traffic_share":
            return float(value)
        case _:
            return value

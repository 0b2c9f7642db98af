"""Whether bytes are an OTLP metrics request, in compiled code, and what lies where in it.

A body is refused exactly where the generated classes refuse it: every message, text and length is checked.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import wire_grammar
from domain.telemetry.compiling import compiled, inlined
from domain.telemetry.interning import MISSING, Bytes, Tables, lookup
from domain.telemetry.wire import GROUP, GROUP_END, LENGTH, VARINT, field
from domain.telemetry.wire_grammar import (
    EXPONENTIAL,
    FIRST_POINT,
    GAUGE,
    LAST_POINT,
    OF_RESOURCE,
    OF_SCOPE,
    REQUEST,
    SKIPPED,
    SUM,
    SUMMARY,
    TEXT,
)

MALFORMED, UNUSUAL, SOUND = -2, -1, 0
POINT_DEPTH = 5  # messages around a data point
_MAX_DEPTH = 100  # messages and groups within each other

# Columns of `Structure.metrics`: where the texts of a metric begin and end, then what its data are.
RESOURCE, SCOPE, NAME, UNIT, SHAPE, TEMPORALITY, MONOTONIC, _COLUMNS = 0, 2, 4, 6, 8, 9, 10, 11
# Columns of `Structure.points`: where it begins and ends, its metric, where its attributes begin and end.
BEGIN, END, METRIC, ATTRIBUTES, _PLACES = 0, 1, 2, 3, 5
# Places in `Structure.notes`: what there is so far, where the present ones began, where their owners lie.
_POINTS, _METRICS, _FIRST_METRICS, _FIRST_OF_METRIC, _OWNERS, _NOTES = 0, 1, 2, 4, 5, 9


class Grammar(NamedTuple):
    """`wire_grammar.lengths`, and room for a walk."""

    lengths: NDArray[np.int64]
    stack: NDArray[np.int64]


class Structure(NamedTuple):
    """Where all data points lie, and what is said of their metrics: rows of the columns named above.

    `notes` tell how many there are; where there are more than there is room for, the last rows are wrong.
    """

    points: NDArray[np.int64]
    metrics: NDArray[np.int64]
    notes: NDArray[np.int64]


def grammar() -> Grammar:
    return Grammar(wire_grammar.lengths(), np.zeros((_MAX_DEPTH + 1, 3), np.int64))


def structure(room: int) -> Structure:
    """Room for so many data points."""
    return Structure(
        points=np.zeros((room + 1, _PLACES), np.int64),
        metrics=np.empty((room + 1, _COLUMNS), np.int64),
        notes=np.zeros(_NOTES, np.int64),
    )


def size(found: Structure) -> int:
    """How many data points there are."""
    return int(found.notes[_POINTS])


def filled(found: Structure) -> Structure:
    """The rows of data points, and of metrics with data points."""
    points, metrics = found.notes[: _METRICS + 1].tolist()
    return found._replace(points=found.points[:points], metrics=found.metrics[:metrics])


def outline(body: Bytes, grammar: Grammar, found: Structure) -> int:
    """Fill the structure of a body: SOUND, MALFORMED or UNUSUAL."""
    found.notes[:] = 0
    return int(walk(body, 0, len(body), REQUEST, 0, grammar, found))


@compiled
def streams(
    body: Bytes, metrics: NDArray[np.int64], owners: Tables, headers: Tables, numbers: NDArray[np.int32]
) -> None:
    """The number of each metric's stream, MISSING where that or its owners were not seen before.

    `owners` know the number of a resource or scope, by the column for it; `headers` know that of a metric
    by its texts and its `tag_of`.
    """
    resource = scope = np.int64(MISSING)
    for row in range(len(metrics)):
        metric = metrics[row]
        # What a body says once is looked up once, however many metrics there are.
        if row == 0 or metric[RESOURCE] != metrics[row - 1, RESOURCE]:
            resource = lookup(owners, body, metric[RESOURCE:SCOPE], RESOURCE)
        if row == 0 or metric[SCOPE] != metrics[row - 1, SCOPE]:
            scope = lookup(owners, body, metric[SCOPE:NAME], SCOPE)
        numbers[row] = MISSING
        if resource != MISSING and scope != MISSING:
            numbers[row] = lookup(headers, body, metric[NAME:SHAPE], tag_of(metric, resource, scope))


@inlined
def tag_of(metric: NDArray[np.int64], resource: int, scope: int) -> np.int64:
    """The numbers of a metric's owners, below 2^24, and what its data are."""
    temporality = min(metric[TEMPORALITY], 3)  # of which only 1 and 2 are known
    data = metric[SHAPE] | metric[MONOTONIC] << 4 | temporality << 5
    return np.int64(data | resource << 8 | scope << 32)


@compiled
def walk(body: Bytes, at: int, end: int, message: int, depth: int, grammar: Grammar, found: Structure) -> int:
    """SOUND if a message that lies within `depth` others is well-formed with all that is in it, or MALFORMED.

    Of a REQUEST the structure is noted, and its data points are left to be walked. It is UNUSUAL if parts
    that are sent more than once are to be merged.
    """
    lengths, stack = grammar.lengths, grammar.stack
    level = depth
    stack[level, 0], stack[level, 1], stack[level, 2] = end, message, 0
    while at < end or level > depth:
        if at == end and stack[level, 2] == 0:
            _leave(found, message)
            level -= 1
            end, message = stack[level, 0], stack[level, 1]
            continue
        tag, value, begin, at = field(body, at, end)
        kind, number = tag & 7, tag >> 3
        if at < 0 or (kind == GROUP_END and stack[level, 2] != number):
            return MALFORMED
        measured = lengths[message, number] if kind == LENGTH and number < 16 else SKIPPED
        if kind == GROUP_END:
            level -= 1
            message = stack[level, 1]
        elif kind == GROUP or SKIPPED < measured < FIRST_POINT or LAST_POINT < measured < TEXT:
            state = MALFORMED if level == _MAX_DEPTH else _enter(found, measured, begin, at)
            if state != SOUND:
                return state
            level += 1
            end, at, message = end if kind == GROUP else at, begin, measured
            stack[level, 0], stack[level, 1], stack[level, 2] = end, message, number if kind == GROUP else 0
        elif kind == VARINT:
            _note_number(found, message, number, value)
        elif not _is_noted(body, found, message, number, measured, begin, at):
            return MALFORMED
    return SOUND


@inlined
def _is_noted(
    body: Bytes, found: Structure, message: int, number: int, measured: int, begin: int, end: int
) -> bool:
    """Note where the content of a field lies, if it is what it should be."""
    if measured != SKIPPED:
        _note_span(found, message, number, begin, end)
    return bool(wire_grammar.is_content(body, begin, end, measured))


@inlined
def _row(found: Structure) -> np.int64:
    """Of the metric that is being walked."""
    return np.int64(min(found.notes[_METRICS], len(found.metrics) - 1))


@inlined
def _enter(found: Structure, message: int, begin: int, end: int) -> int:
    notes, metric = found.notes, found.metrics[_row(found)]
    if message in (OF_RESOURCE, OF_SCOPE):
        which = message - OF_RESOURCE
        notes[_FIRST_METRICS + which], notes[_OWNERS + 2 * which] = notes[_METRICS], -1
    elif message in (wire_grammar.RESOURCE, wire_grammar.SCOPE):
        owner = _OWNERS + 2 * (message - wire_grammar.RESOURCE)
        if notes[owner] >= 0:
            return UNUSUAL
        notes[owner], notes[owner + 1] = begin, end
    elif message == wire_grammar.METRIC:
        notes[_FIRST_OF_METRIC] = notes[_POINTS]
        metric[:] = 0
    elif GAUGE <= message <= SUMMARY:
        if metric[SHAPE] != 0:
            return UNUSUAL
        metric[SHAPE] = message
    return SOUND


@inlined
def _leave(found: Structure, message: int) -> None:
    notes, metrics = found.notes, found.metrics
    if message == wire_grammar.METRIC and notes[_POINTS] > notes[_FIRST_OF_METRIC]:
        notes[_METRICS] += 1
    elif message in (OF_RESOURCE, OF_SCOPE):
        which = message - OF_RESOURCE
        begin, end = notes[_OWNERS + 2 * which], notes[_OWNERS + 2 * which + 1]
        if begin >= 0:
            for row in range(notes[_FIRST_METRICS + which], min(notes[_METRICS], len(metrics))):
                metrics[row, RESOURCE + 2 * which], metrics[row, RESOURCE + 2 * which + 1] = begin, end


@inlined
def _note_number(found: Structure, message: int, number: int, value: np.uint64) -> None:
    metric = found.metrics[_row(found)]
    if number == wire_grammar.TEMPORALITY and SUM <= message <= EXPONENTIAL:
        metric[TEMPORALITY] = np.int64(value & np.uint64(2**32 - 1))
    elif number == wire_grammar.MONOTONIC and message == SUM:
        metric[MONOTONIC] = np.int64(value != np.uint64(0))


@inlined
def _note_span(found: Structure, message: int, number: int, begin: int, end: int) -> None:
    notes, metric = found.notes, found.metrics[_row(found)]
    if GAUGE <= message <= SUMMARY:
        point = found.points[min(notes[_POINTS], len(found.points) - 1)]
        point[BEGIN], point[END], point[METRIC] = begin, end, notes[_METRICS]
        notes[_POINTS] += 1
    elif message == wire_grammar.METRIC and number == wire_grammar.NAME:
        metric[NAME], metric[NAME + 1] = begin, end
    elif message == wire_grammar.METRIC and number == wire_grammar.UNIT:
        metric[UNIT], metric[UNIT + 1] = begin, end

"""Numbered points: each adds its number to a cell of its own, so that one that is lost or doubled shows."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    Metric,
    NumberDataPoint,
)

from domain.telemetry import blocks, columns
from domain.telemetry.columns import Columns
from tests.faults.installation import Installation

SIZE = 100  # points of a request
_MINUTES = 500  # a series has so many, before the next series begins
_SECOND = 10**9

Cell = tuple[str, str, int]
"""Account, issuer, and minute (epoch seconds)."""


class Numbers:
    """The points of one test, from the first number on; their minutes are of the hours before it began."""

    def __init__(self, accounts: Sequence[str]) -> None:
        self._accounts = accounts
        start = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=_MINUTES + 10)
        self._start = int(start.timestamp())

    def cell(self, number: int) -> Cell:
        series, minute = divmod(number, _MINUTES)
        account = self._accounts[series % len(self._accounts)]
        return account, f"bank-{series}", self._start + 60 * minute

    def cells(self, requests: Sequence[int]) -> dict[Cell, float]:
        """What the points of these requests come to where each was taken once."""
        numbers = (number for one in requests for number in range(one * SIZE, (one + 1) * SIZE))
        return {self.cell(number): number + 1.0 for number in numbers}

    def body(self, request: int) -> bytes:
        """The points of a request, as deltas: nothing but its key keeps a repetition from adding up."""
        export = ExportMetricsServiceRequest()
        for number in range(request * SIZE, (request + 1) * SIZE):
            account, issuer, at = self.cell(number)
            resource = export.resource_metrics.add()
            resource.resource.attributes.extend([_attribute("vitals.account", account)])
            metric = resource.scope_metrics.add().metrics.add(name="payments.count")
            _fill(metric, issuer, at, number + 1)
        return export.SerializeToString()


def _fill(metric: Metric, issuer: str, at: int, value: int) -> None:
    metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
    metric.sum.is_monotonic = True
    labels = [_attribute("outcome", "approved"), _attribute("issuer", issuer)]
    time_unix_nano = (at + 30) * _SECOND
    metric.sum.data_points.append(
        NumberDataPoint(
            attributes=labels,
            start_time_unix_nano=at * _SECOND,
            time_unix_nano=time_unix_nano,
            as_int=value,
        )
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


def stored(installation: Installation, accounts: Sequence[str]) -> dict[Cell, float]:
    """What the minutes of these accounts hold, all sources together."""
    rows = installation.fetch(
        "SELECT a.external_id, m.shard, m.at, m.cells FROM minutes m JOIN accounts a ON a.id = m.account_id"
        " WHERE a.external_id = ANY ($1)",
        accounts,
    )
    issuers = _issuers(installation, accounts)
    found: defaultdict[Cell, float] = defaultdict(float)
    for row in rows:
        for number, value, _ in blocks.rows(row["cells"], shard=row["shard"]):
            account = row["external_id"]
            found[account, issuers[account, number], int(row["at"].timestamp())] += value
    return dict(found)


def logged(installation: Installation, accounts: Sequence[str]) -> dict[Cell, float]:
    """What the log holds of these accounts, added up."""
    known = "SELECT id, external_id FROM accounts WHERE external_id = ANY ($1)"
    names = {row["id"]: row["external_id"] for row in installation.fetch(known, accounts)}
    issuers = _issuers(installation, accounts)
    found: defaultdict[Cell, float] = defaultdict(float)
    for row in installation.fetch("SELECT columns FROM ingest_log"):
        for account_id, number, at, value in _rows(columns.decode(row["columns"])):
            if account := names.get(account_id):
                found[account, issuers[account, number], at] += value
    return dict(found)


def _rows(batch: Columns) -> Iterator[tuple[object, int, int, float]]:
    accounts = [batch.accounts[index] for index in batch.account.tolist()]
    return zip(accounts, batch.number.tolist(), batch.at.tolist(), batch.value.tolist(), strict=True)


def _issuers(installation: Installation, accounts: Sequence[str]) -> dict[tuple[str, int], str]:
    rows = installation.fetch(
        "SELECT a.external_id, s.number, s.labels->>'issuer' AS issuer FROM series s"
        " JOIN accounts a ON a.id = s.account_id WHERE s.number IS NOT NULL AND a.external_id = ANY ($1)",
        accounts,
    )
    return {(row["external_id"], row["number"]): row["issuer"] for row in rows}


def require_same(found: dict[Cell, float], sent: dict[Cell, float]) -> None:
    """Each point once: none is missing, none is doubled, and there is none that nobody sent."""
    missing = [cell for cell in sent if cell not in found]
    wrong = [(cell, value, sent.get(cell)) for cell, value in found.items() if value != sent.get(cell)]
    assert not missing, f"{len(missing)} points are missing, such as {missing[:3]}"
    assert not wrong, f"{len(wrong)} points are not what was sent, such as {wrong[:3]}"

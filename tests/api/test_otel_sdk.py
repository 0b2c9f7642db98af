"""OpenTelemetry's own SDK sends to the running server, and what it measured is read back."""

import asyncio
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import Counter, Histogram, MeterProvider
from opentelemetry.sdk.metrics.export import AggregationTemporality, PeriodicExportingMetricReader
from opentelemetry.sdk.metrics.view import ExponentialBucketHistogramAggregation, View
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from sqlalchemy import select

from domain.access.models import PrincipalKind
from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import queries
from domain.telemetry.aggregations import Aggregation
from domain.telemetry.fold import fold
from domain.telemetry.models import Series
from domain.telemetry.queries import Summary
from domain.telemetry.windows import Resolution, Window
from tests import make
from tests.api.conftest import Api

DELTA = {Counter: AggregationTemporality.DELTA, Histogram: AggregationTemporality.DELTA}
Temporality = Mapping[type, AggregationTemporality] | None


@dataclass
class Sender:
    """A service of an account, as its SDK is configured."""

    url: str
    headers: dict[str, str]
    resource: Resource

    @classmethod
    async def of(cls, api: Api, db: Database, **resource: str) -> "Sender":
        key = await make.key(db, kind=PrincipalKind.INGEST)
        attributes = {name.replace("__", "."): text for name, text in resource.items()}
        return cls(api.url, {"Authorization": f"Bearer {key}"}, Resource.create(attributes))

    @contextmanager
    def meters(self, *views: View, temporality: Temporality = None) -> Iterator[MeterProvider]:
        """Exports when it is flushed, and never by itself."""
        exporter = OTLPMetricExporter(
            endpoint=f"{self.url}/v1/metrics",
            headers=self.headers,
            preferred_temporality=dict(temporality or {}),
        )
        reader = PeriodicExportingMetricReader(exporter, export_interval_millis=math.inf)
        provider = MeterProvider([reader], self.resource, shutdown_on_exit=False, views=views)
        yield provider
        provider.shutdown()

    @contextmanager
    def tracers(self) -> Iterator[TracerProvider]:
        """Exports each span as it ends."""
        exporter = OTLPSpanExporter(
            endpoint=f"{self.url}/v1/traces", headers=self.headers, compression=Compression.Gzip
        )
        provider = TracerProvider(resource=self.resource, shutdown_on_exit=False)
        provider.add_span_processor(SimpleSpanProcessor(exporter))
        yield provider
        provider.shutdown()


@pytest.fixture
async def account(db: Database) -> Account:
    return await make.account(db)


@pytest.fixture
async def sender(api: Api, db: Database, account: Account) -> Sender:
    return await Sender.of(api, db, service__name="checkout", vitals__account=account.external_id)


async def told(
    worker_db: Database, account: Account, metric: str, aggregation: Aggregation | None = None
) -> dict[tuple[tuple[str, str], ...], Summary]:
    """What the measured series of a metric came to lately, by their labels."""
    now = datetime.now(UTC)
    while await fold(worker_db, now):
        pass
    window = Window(now - timedelta(minutes=20), now + timedelta(minutes=5), Resolution.MINUTE)
    async with worker_db.read() as session:
        chosen = select(Series).where(
            Series.account_id == account.id, Series.metric == metric, Series.is_measured
        )
        series = (await session.scalars(chosen)).all()
        found = await queries.summarize(session, series, window, aggregation)
    labels = [tuple(sorted(one.labels.items())) for one in series]
    return dict(zip(labels, found, strict=True))


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
async def test_counters_add_up_over_exports(
    sender: Sender, worker_db: Database, account: Account, temporality: Temporality
) -> None:
    def send() -> None:
        with sender.meters(temporality=temporality) as provider:
            payments = provider.get_meter("checkout").create_counter("payments.count")
            payments.add(5, {"outcome": "approved", "vitals.partner": "acme"})
            payments.add(1, {"outcome": "declined"})
            assert provider.force_flush()
            payments.add(7, {"outcome": "approved", "vitals.partner": "acme"})
            assert provider.force_flush()

    await asyncio.to_thread(send)
    assert await told(worker_db, account, "payments.count") == {
        (("outcome", "approved"), ("partner", "acme")): Summary(12, 12),
        (("outcome", "declined"),): Summary(1, 1),
    }


@pytest.mark.parametrize("temporality", [None, DELTA], ids=["cumulative", "delta"])
@pytest.mark.parametrize("is_exponential", [False, True], ids=["explicit", "exponential"])
async def test_histograms_add_up_over_exports(
    sender: Sender,
    worker_db: Database,
    account: Account,
    temporality: Temporality,
    is_exponential: bool,
) -> None:
    """Seconds become milliseconds. Where the buckets are exponential, quantiles are near the true ones."""
    values = np.random.default_rng(7).lognormal(-2, 1, 200)
    exponential = View(instrument_name="*", aggregation=ExponentialBucketHistogramAggregation())

    def send() -> None:
        views = [exponential] if is_exponential else []
        with sender.meters(*views, temporality=temporality) as provider:
            latency = provider.get_meter("checkout").create_histogram("payments.latency", unit="s")
            for part in np.split(values, 2):
                for value in part.tolist():
                    latency.record(value, {"method": "card"})
                assert provider.force_flush()

    await asyncio.to_thread(send)
    key = (("method", "card"),)
    mean = (await told(worker_db, account, "payments.latency"))[key]
    assert mean.sample_size == 200
    assert mean.value == pytest.approx(1000 * values.mean())
    if is_exponential:
        median = (await told(worker_db, account, "payments.latency", Aggregation.P50))[key]
        assert median.value == pytest.approx(1000 * np.sort(values)[99], rel=0.07)


async def test_a_gauge_is_its_level(sender: Sender, worker_db: Database, account: Account) -> None:
    def send() -> None:
        with sender.meters() as provider:
            depth = provider.get_meter("checkout").create_gauge("queue.depth")
            depth.set(40)
            depth.set(3.5)
            assert provider.force_flush()

    await asyncio.to_thread(send)
    [level] = (await told(worker_db, account, "queue.depth")).values()
    assert level.value == 3.5


async def test_spans_that_a_gateway_places_are_the_requests_of_each_account(
    api: Api, db: Database, worker_db: Database
) -> None:
    ann, ben = await make.account(db), await make.account(db)
    gateway = await Sender.of(api, db, service__name="gateway", vitals__service="payments-api")
    ended = int((datetime.now(UTC) - timedelta(minutes=2)).timestamp()) * 10**9

    def send() -> None:
        with gateway.tracers() as provider:
            tracer = provider.get_tracer("gateway")
            for merchant, status, ms in ((ann, 201, 100), (ann, 201, 300), (ann, 503, 20), (ben, 200, 50)):
                with tracer.start_as_current_span(
                    "POST /v1/payments",
                    kind=SpanKind.SERVER,
                    start_time=ended - ms * 10**6,
                    end_on_exit=False,
                ) as span:
                    span.set_attribute("http.request.method", "POST")
                    span.set_attribute("http.route", "/v1/payments")
                    span.set_attribute("http.response.status_code", status)
                    span.set_attribute("vitals.account", merchant.external_id)
                    span.set_status(Status(StatusCode.ERROR if status == 503 else StatusCode.UNSET))
                    with tracer.start_as_current_span("charge", kind=SpanKind.CLIENT):
                        pass
                    span.end(ended)

    await asyncio.to_thread(send)
    place = {"method": "POST", "path": "/v1/payments", "service": "payments-api"}

    def labels(**more: str) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((place | more).items()))

    assert await told(worker_db, ann, "api.requests") == {
        labels(status="201"): Summary(2, 2),
        labels(status="503"): Summary(1, 1),
    }
    assert await told(worker_db, ann, "api.latency") == {labels(): Summary(140, 3)}
    [longest] = (await told(worker_db, ann, "api.latency", Aggregation.P99)).values()
    assert longest.value == pytest.approx(300, rel=0.022)
    assert await told(worker_db, ben, "api.requests") == {labels(status="200"): Summary(1, 1)}
    assert await told(worker_db, ben, "api.latency") == {labels(): Summary(50, 1)}

"""The domain's closed sets, as they are published. Names that other types need are given here."""

import strawberry

from domain.access.models import PrincipalKind
from domain.anomalies.models import Direction
from domain.catalog.models import ComponentStatus, PartnerKind
from domain.delivery.queries import GapReason
from domain.forecasts.models import JobKind, JobStatus
from domain.incidents.models import (
    ActorKind,
    HealthKind,
    Impact,
    IncidentStatus,
    Origin,
    Resolution,
    Severity,
)
from domain.insights.models import DismissalReason, InsightKind, InsightStatus
from domain.telemetry.aggregations import Aggregation
from domain.telemetry.points import Kind as MetricKind
from domain.telemetry.windows import Resolution as SeriesResolution

for enum, name, description in (
    (
        PrincipalKind,
        None,
        "Kinds of principal; MERCHANT is scoped to accounts, PARTNER to itself, INGEST writes telemetry"
        " only.",
    ),
    (ComponentStatus, None, "Worst last."),
    (PartnerKind, None, "What part a partner has in a payment."),
    (
        MetricKind,
        "MetricKind",
        "COUNT: events in an interval. RATE: good over all, 0..1, from two counts. AMOUNT: money in an"
        " interval. DISTRIBUTION: observations, read as their mean or as percentiles. GAUGE: a level at an"
        " instant.",
    ),
    (
        Aggregation,
        None,
        "What the values of an interval come to. SUM: of counts and amounts. RATE: the summed counts divided,"
        " never an average of rates. MEAN: over observations, or else over minutes. MIN, MAX and LAST: of the"
        " minutes of a level. P50 to P99: percentiles of the observations whose distribution is known, merged"
        " exactly and told within 2.2 %.",
    ),
    (
        SeriesResolution,
        "Resolution",
        "Length of an interval. DAY: from midnight to midnight in the account's time zone.",
    ),
    (Direction, "AnomalyDirection", "UP or DOWN may be good or bad; MISSING: no data where some was due."),
    (
        JobStatus,
        None,
        "The last three are final.",
    ),
    (JobKind, None, "What a job computes."),
    (
        HealthKind,
        None,
        "What it is about. The first are health-alert types; METRIC_ANOMALY covers every other metric."
        " COMPONENT_STATUS: a service's or partner's own declaration.",
    ),
    (
        IncidentStatus,
        None,
        "As on Statuspage. SCHEDULED, IN_PROGRESS, VERIFYING and COMPLETED are for scheduled maintenance"
        " only.",
    ),
    (Impact, None, "How far it reaches (Statuspage). MAINTENANCE is for scheduled work only."),
    (Severity, None, "CRITICAL: act now."),
    (
        Origin,
        "IncidentOrigin",
        "Found by a detector, opened by a person, or read from a partner's page.",
    ),
    (
        Resolution,
        "IncidentResolution",
        "How it is known to be over. OBSERVED: telemetry recovered. DECLARED: somebody said so. INFERRED:"
        " its status page no longer shows it.",
    ),
    (ActorKind, None, "What kind of actor."),
    (InsightKind, None, "A rule of the catalogue."),
    (
        InsightStatus,
        None,
        "SEEN, ACCEPTED, APPLIED and DISMISSED are a person's doing; EXPIRED when it no longer holds.",
    ),
    (
        GapReason,
        "StreamGapReason",
        "UNKNOWN_CURSOR: the cursor belongs to another stream or installation.",
    ),
    (DismissalReason, None, "TOO_SMALL: not worth the effort. EXPECTED: known and wanted."),
):
    strawberry.enum(enum, name=name, description=description)

"""Counts of this process, in Prometheus' text form. No label names a tenant; label values are closed sets."""

from collections import defaultdict
from collections.abc import Iterator

Labels = tuple[tuple[str, str], ...]

_HELP = {
    "vitals_http_requests_total": ("counter", "Requests answered, by route and status."),
    "vitals_http_request_seconds_total": ("counter", "Time spent on requests, by route."),
    "vitals_graphql_errors_total": ("counter", "Errors in GraphQL replies, by code."),
    "vitals_sockets": ("gauge", "WebSockets that are open."),
    "vitals_subscriptions": ("gauge", "Subscriptions that are being served."),
    "vitals_ingest_points_total": ("counter", "Points acknowledged, by format; repeated requests have none."),
    "vitals_ingest_late_points_total": (
        "counter",
        "Points that came more than 5 minutes after their minute.",
    ),
    "vitals_ingest_refused_total": ("counter", "Points refused, by format and reason."),
    "vitals_ingest_requests_total": (
        "counter",
        "Requests to take points, by format and what became of them.",
    ),
    "vitals_ingest_requests": ("gauge", "Requests with points that are in work."),
    "vitals_ingest_bytes": ("gauge", "Bytes of their bodies."),
    "vitals_ingest_queue": ("gauge", "Those of them that wait to be written."),
    "vitals_stripe_events_total": (
        "counter",
        "Events of Stripe's webhooks, by type and by what became of them.",
    ),
    "vitals_listening": ("gauge", "1 while the database tells this process of new events, 0 while it polls."),
}


class Metrics:
    def __init__(self) -> None:
        self._values: dict[str, dict[Labels, float]] = defaultdict(lambda: defaultdict(float))

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        self._values[name][tuple(sorted(labels.items()))] += amount

    def set(self, name: str, value: float) -> None:
        self._values[name][()] = value

    def text(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, (kind, description) in _HELP.items():
            yield f"# HELP {name} {description}"
            yield f"# TYPE {name} {kind}"
            for labels, value in sorted(self._values[name].items()):
                pairs = ",".join(f'{key}="{text}"' for key, text in labels)
                yield f"{name}{{{pairs}}} {value:.6g}" if pairs else f"{name} {value:.6g}"

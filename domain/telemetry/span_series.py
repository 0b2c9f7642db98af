"""The two series that a SERVER span belongs to: requests by path, method and status, and their latency."""

from domain.telemetry import otlp_attributes, span_labels
from domain.telemetry.otlp_attributes import MAX_NEW, TOO_MANY, Message, Refused, Texts
from domain.telemetry.slots import Slots

REQUESTS, LATENCY = "api.requests", "api.latency"
_ERROR = (2, "2", "STATUS_CODE_ERROR")


class Finder:
    """Finds the series of the spans of one body; those that say the same have the same."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._known: dict[object, tuple[int, int]] = {}
        self._new = 0

    def find(self, span: Message, place: Texts) -> tuple[int, int]:
        """The slots of requests and latency; `place` is what the owners of the span say. Raises Refused."""
        told = otlp_attributes.texts(
            one
            for one in span.attributes or ()
            if (name := one.key or "") in span_labels.READ or name.startswith("vitals.")
        )
        status = None if span.status is None else span.status.code
        key = span.name, status, *place.items(), None, *told.items()
        slots = self._known.get(key)
        if slots is None:
            self._new += 1
            if self._new > MAX_NEW:
                raise Refused(TOO_MANY)
            is_error = status in _ERROR
            slots = self._known[key] = self._find(span.name or "", place | told, is_error=is_error)
        return slots

    def _find(self, name: str, found: Texts, *, is_error: bool) -> tuple[int, int]:
        account = found.get("vitals.account")
        if not account:
            raise Refused("account is missing: a span, its scope or resource needs vitals.account (text)")
        request = span_labels.request(name, found)
        timed = {key: text for key, text in found.items() if key.startswith("vitals.")}
        timed |= {"path": request.path, "method": request.method}
        counted = timed | {"status": request.status or ("error" if is_error else "ok")}
        return self._slot(account, REQUESTS, counted), self._slot(account, LATENCY, timed)

    def _slot(self, account: str, metric: str, told: Texts) -> int:
        slot = self._slots.slot(account, metric, otlp_attributes.labels(told))
        if flaw := self._slots.refusals[slot]:
            raise Refused(" ".join(flaw))
        return slot

"""The words that platforms use for how a payment ended, in ours; one that is not known is refused."""

from collections.abc import Mapping, Sequence

_KNOWN: Mapping[str, dict[str, str]] = {
    "denied": {"outcome": "declined"},
    "backend_reversed": {"outcome": "reversed", "code": "backend_reversed"},
}


class Outcomes:
    """Translates outcomes to those that a metric has (`allowed`; none: any); `given` goes first."""

    def __init__(self, given: Mapping[str, str], *, allowed: Sequence[str]) -> None:
        self._given, self._allowed = given, allowed

    def labels(self, text: str) -> dict[str, str]:
        """The labels that say it; ValueError for a word that is not known."""
        if text in self._given:
            found = {"outcome": self._given[text]}
        else:
            found = _KNOWN.get(text, {"outcome": text}) if self._allowed else {"outcome": text}
        if self._allowed and found["outcome"] not in self._allowed:
            known = ", ".join(self._allowed)
            raise ValueError(
                f"{found['outcome'][:60]!r} is not an outcome; they are {known}."
                f" Say which it is with --outcome {text[:60]}=…"
            )
        return found

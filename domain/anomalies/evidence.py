"""How much a window's counts speak for a material drop, in nats: the log-likelihood ratio of two designs.

A drop is material when it costs merchants something, so the alternative is a fixed shift, not "any change":
evidence grows only when the truth is nearer to that shift than to the expectation. Counts decide, not rates.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# A drop of the rate that is looked for: at least this share of the good attempts, and this much in logits.
RATE_SHARE, RATE_LOGIT = 0.10, 0.5
PLAIN_RATE_SHARE, PLAIN_RATE_LOGIT = 0.30, 1.2
# The same of volume, on the log scale (0.8 = -55 %, so that from about -35 % on evidence grows), and
# never under so many of its own deviations.
VOLUME_LOG, PLAIN_VOLUME_LOG, VOLUME_DEVIATIONS = 0.8, 1.2, 5.0


@dataclass(frozen=True)
class Window:
    """One judged window of each node: all (nodes,). For volume `trials` are the attempts expected."""

    trials: FloatArray
    observed: FloatArray
    expected: FloatArray
    dispersion: FloatArray
    calendar: FloatArray


class Family(Protocol):
    """How one kind of metric varies. The link is the scale on which its level moves."""

    name: str
    first_dispersion: float
    # The level (link scale) assumed of a node without a season; NaN: such a node is not judged.
    first_level: float

    def link(self, expected: FloatArray) -> FloatArray: ...
    def unlink(self, level: FloatArray) -> FloatArray: ...
    def material(self, window: Window, *, plain: bool) -> FloatArray:
        """What a material (`plain`: an unmistakable) drop would leave of the expected, a part of 1."""

    def nats(self, window: Window, left: FloatArray) -> FloatArray:
        """The evidence that only the part `left` of the expected comes, against all of it."""

    def surprise(self, window: Window) -> tuple[FloatArray, FloatArray]:
        """The working residual on the link scale, and the information (1 / variance) in it."""

    def excess(self, window: Window) -> FloatArray:
        """What this window says of the dispersion, in `unit`s; outliers cut at three deviations."""

    def unit(self, expected: FloatArray) -> FloatArray: ...
    def variance(self, window: Window) -> FloatArray:
        """The variance of `observed` under the expectation."""

    def slope(self, window: Window) -> FloatArray:
        """By how much `expected` moves with the level on the link scale."""

    def most(self, window: Window) -> FloatArray:
        """The highest `observed` that can be."""

    def reported_per(self, window: Window) -> FloatArray:
        """What a figure is divided by when it is told: attempts make a rate, a volume stays a count."""


class Rates:
    """Quasi-binomial: `dispersion` multiplies the binomial variance (at least 1)."""

    name = "rate-drop"
    first_dispersion = 1.3
    first_level = 1.7  # 85 %

    def link(self, expected: FloatArray) -> FloatArray:
        return np.log(expected / (1 - expected))

    def unlink(self, level: FloatArray) -> FloatArray:
        return 1 / (1 + np.exp(-level))

    def material(self, window: Window, *, plain: bool) -> FloatArray:
        share, logit = (PLAIN_RATE_SHARE, PLAIN_RATE_LOGIT) if plain else (RATE_SHARE, RATE_LOGIT)
        usual = _rate(window)
        return np.minimum(1 - share, self.unlink(self.link(usual) - logit) / usual)

    def nats(self, window: Window, left: FloatArray) -> FloatArray:
        usual = _rate(window)
        bad = window.trials - window.observed
        nats = window.observed * np.log(left) + bad * np.log((1 - usual * left) / (1 - usual))
        return nats / _quasi(window)

    def surprise(self, window: Window) -> tuple[FloatArray, FloatArray]:
        binomial = _binomial_variance(window)
        information = binomial / _quasi(window)
        residual = (window.observed - window.expected) / binomial
        return _cut(residual, 3 / np.sqrt(information)), information

    def excess(self, window: Window) -> FloatArray:
        square = (window.observed - window.expected) ** 2 / _binomial_variance(window)
        return np.minimum(square, 9 * _quasi(window))

    def unit(self, expected: FloatArray) -> FloatArray:
        return np.ones_like(expected)

    def variance(self, window: Window) -> FloatArray:
        return _binomial_variance(window) * _quasi(window)

    def slope(self, window: Window) -> FloatArray:
        return _binomial_variance(window)

    def most(self, window: Window) -> FloatArray:
        return window.trials

    def reported_per(self, window: Window) -> FloatArray:
        return window.trials


class Volume:
    """Negative binomial: variance = expected + dispersion * expected ** 2; the calendar widens it."""

    name = "volume-drop"
    first_dispersion = 0.02
    first_level = float("nan")

    def link(self, expected: FloatArray) -> FloatArray:
        return np.log(expected)

    def unlink(self, level: FloatArray) -> FloatArray:
        return np.exp(level)

    def material(self, window: Window, *, plain: bool) -> FloatArray:
        least = PLAIN_VOLUME_LOG if plain else VOLUME_LOG
        return np.exp(-np.maximum(least, VOLUME_DEVIATIONS * np.sqrt(_wide(window))))

    def nats(self, window: Window, left: FloatArray) -> FloatArray:
        size = 1 / _wide(window)
        both = np.log((size + window.expected) / (size + window.expected * left))
        nats: FloatArray = size * both + window.observed * (np.log(left) + both)
        return nats

    def surprise(self, window: Window) -> tuple[FloatArray, FloatArray]:
        information = window.expected / (1 + _wide(window) * window.expected)
        residual = (window.observed - window.expected) / window.expected
        return _cut(residual, 3 / np.sqrt(information)), information

    def excess(self, window: Window) -> FloatArray:
        square = (window.observed - window.expected) ** 2
        return np.minimum(square, 9 * self.variance(window)) - window.expected

    def unit(self, expected: FloatArray) -> FloatArray:
        return expected**2

    def variance(self, window: Window) -> FloatArray:
        return window.expected + _wide(window) * window.expected**2

    def slope(self, window: Window) -> FloatArray:
        return window.expected

    def most(self, window: Window) -> FloatArray:
        return np.full_like(window.expected, np.inf)

    def reported_per(self, window: Window) -> FloatArray:
        return np.ones_like(window.expected)


def _rate(window: Window) -> FloatArray:
    return window.expected / window.trials


def _binomial_variance(window: Window) -> FloatArray:
    return window.expected * (1 - _rate(window))


def _quasi(window: Window) -> FloatArray:
    return np.maximum(window.dispersion, 1.0)


def _wide(window: Window) -> FloatArray:
    return np.maximum(window.dispersion, 1e-3) + window.calendar**2


def _cut(values: FloatArray, limit: FloatArray) -> FloatArray:
    return np.clip(values, -limit, limit)

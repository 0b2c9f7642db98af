"""The scales on which series are modelled, and how much an hour scatters there by its counts alone."""

from dataclasses import dataclass
from typing import ClassVar, Final, Protocol

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

# Attempts at the series' own rate that each hour counts besides its own, and the rates nothing goes beyond.
PSEUDO_ATTEMPTS: Final = 20.0
LEAST_RATE: Final = 1e-3


class Link(Protocol):
    """No value of the series exceeds `most`; none is negative.

    `trials` are what is counted in an hour: attempts for a rate; a count needs none.
    """

    most: ClassVar[float]

    def values(self) -> FloatArray:
        """The known hours on the link scale; NaN where nothing is known."""

    def sampling_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        """The variance that the counts alone give `values` around `middle`."""

    def observed_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        """The same of what is observed of the series, from which `values` may be smoothed."""

    def mean(self, middle: FloatArray, variance: FloatArray) -> FloatArray:
        """The expected value of an hour whose counts give it `variance`, in the unit of the series."""

    def back(self, values: FloatArray) -> FloatArray:
        """From the link scale to the unit of the series, within its physical bounds."""

    def grain(self, trials: FloatArray) -> FloatArray:
        """Half a step of what is observed, by which bands reach further: small hours take few values."""


@dataclass(frozen=True)
class Counts:
    """log(1 + count)."""

    total: FloatArray
    most: ClassVar[float] = np.inf

    def values(self) -> FloatArray:
        return np.log1p(self.total)

    def sampling_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        """That of a Poisson count, by the delta method."""
        mean = self.back(middle)
        return np.asarray(mean / (1 + mean) ** 2)

    def observed_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        return self.sampling_variance(middle, trials)

    def mean(self, middle: FloatArray, variance: FloatArray) -> FloatArray:
        """The mean of the logarithms falls short of the logarithm of the mean by half the variance."""
        return self.back(middle + variance / 2)

    def back(self, values: FloatArray) -> FloatArray:
        return np.maximum(np.expm1(values), 0.0)

    def grain(self, trials: FloatArray) -> FloatArray:
        return np.zeros_like(trials)


@dataclass(frozen=True)
class Rates:
    """logit((good + k · usual) / (total + k)): small hours are drawn to the series' `usual` rate."""

    good: FloatArray
    total: FloatArray
    usual: float
    most: ClassVar[float] = 1.0

    @classmethod
    def of(cls, good: FloatArray, total: FloatArray) -> "Rates":
        usual = np.nansum(good) / max(float(np.nansum(total)), 1.0)
        return cls(good, total, float(np.clip(usual, LEAST_RATE, 1 - LEAST_RATE)))

    def values(self) -> FloatArray:
        attempts = np.where(self.total > 0, self.total, np.nan)
        rate = (self.good + PSEUDO_ATTEMPTS * self.usual) / (attempts + PSEUDO_ATTEMPTS)
        rate = np.clip(rate, LEAST_RATE, 1 - LEAST_RATE)
        return np.asarray(np.log(rate / (1 - rate)))

    def sampling_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        """That of a binomial rate of `trials` attempts, shrunk as `values` are."""
        shrunk = trials / (trials + PSEUDO_ATTEMPTS)
        return np.asarray(self.observed_variance(middle, trials) * shrunk**2)

    def observed_variance(self, middle: FloatArray, trials: FloatArray) -> FloatArray:
        rate = np.clip(self.back(middle), LEAST_RATE, 1 - LEAST_RATE)
        return np.asarray(1 / (np.maximum(trials, 1.0) * rate * (1 - rate)))

    def mean(self, middle: FloatArray, variance: FloatArray) -> FloatArray:
        return self.back(middle)

    def back(self, values: FloatArray) -> FloatArray:
        return np.asarray(1 / (1 + np.exp(-values)))

    def grain(self, trials: FloatArray) -> FloatArray:
        return np.asarray(0.5 / np.maximum(trials, 1.0))

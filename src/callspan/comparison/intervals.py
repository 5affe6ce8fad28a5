"""Intervals: 95 % confidence intervals of shares, means, and their differences."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from operator import itemgetter
from random import Random
from statistics import NormalDist, fmean
from typing import Final, NamedTuple

MIN_VALUES: Final = 5
"""Minimum number of values for an interval."""
RESAMPLES: Final = 4_000
"""Fewer leave too few resamples beyond the bounds for 5 values."""
_MAX_RESAMPLED: Final = 200
"""For more values the mean is drawn from a normal distribution, because resampling takes too long."""
_LARGEST: Final = 1e90
"""Larger values, and differences below its inverse, have no interval: their cubes are no floats."""
_NORMAL: Final = NormalDist()
_Z: Final = _NORMAL.inv_cdf(0.975)


class Interval(NamedTuple):
    """A confidence interval."""

    low: float
    high: float


def wilson(successes: int, number: int) -> Interval:
    """Return the Wilson score interval of a share of at least one trial."""
    share, spread = successes / number, _Z**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    # At 0 and 1 the exact bound is the share itself.
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == number else middle + half)


def of_shares(first: tuple[int, int], second: tuple[int, int]) -> Interval | None:
    """Return Newcombe's interval of the second share minus the first, each as (successes, trials); None for too few."""
    if min(first[1], second[1]) < MIN_VALUES:
        return None
    a, b = wilson(*first), wilson(*second)
    p, q = first[0] / first[1], second[0] / second[1]
    difference = q - p
    return Interval(difference - math.hypot(q - b.low, a.high - p), difference + math.hypot(b.high - q, p - a.low))


def of_mean(values: Sequence[float]) -> Interval | None:
    """Return the interval of a mean; None for too few values, or if all are equal.

    A BCa bootstrap with a fixed seed, expanded for few values: unexpanded, 5 values would cover the mean in 85 % of
    cases.
    """
    return _bootstrap([values], [1])


def of_means(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the interval of the second mean minus the first, like `of_mean`."""
    return _bootstrap([first, second], [-1, 1])


def _bootstrap(samples: Sequence[Sequence[float]], signs: Sequence[int]) -> Interval | None:
    """Return the interval of the sum of the signed means of the samples (Efron and Tibshirani 1993, chapter 14)."""
    usable = all(abs(value) <= _LARGEST for sample in samples for value in sample)
    if min(map(len, samples)) < MIN_VALUES or not usable:
        return None
    if all(max(sample) - min(sample) <= 1 / _LARGEST for sample in samples):
        return None
    errors = [_squared_error(sample) for sample in samples]
    estimate = sum(sign * fmean(sample) for sign, sample in zip(signs, samples, strict=True))
    resampled = [
        _resampled_means(sample, seed, error) for seed, (sample, error) in enumerate(zip(samples, errors, strict=True))
    ]
    means = sorted(sum(map(float.__mul__, map(float, signs), row)) for row in zip(*resampled, strict=True))
    share_below = (sum(mean < estimate for mean in means) + sum(mean <= estimate for mean in means)) / (2 * len(means))
    if not 0 < share_below < 1:
        return None
    bias, acceleration = _NORMAL.inv_cdf(share_below), _acceleration(samples, signs, errors)
    z = _expanded_z([*zip(errors, map(len, samples), strict=True)])

    def bound(z: float) -> float:
        share = _NORMAL.cdf(bias + (bias + z) / (1 - acceleration * (bias + z)))
        return means[min(int(share * len(means)), len(means) - 1)]

    return Interval(bound(-z), bound(z))


def _expanded_z(errors: Sequence[tuple[float, int]]) -> float:
    """Return the normal quantile for an interval of 95 % from few values (Hesterberg 2015, expanded percentiles).

    `errors`: the squared error and the number of values of each sample.

    Resamples have the variance of the samples, not of the population. Its uncertainty follows Student's t, with Welch's
    degrees of freedom.
    """
    total = sum(error for error, _ in errors)
    unbiased = sum(error * number / (number - 1) for error, number in errors)
    freedom = unbiased**2 / sum((error * number / (number - 1)) ** 2 / (number - 1) for error, number in errors)
    return _student_t(freedom) * math.sqrt(unbiased / total)


def _student_t(freedom: float) -> float:
    """Return the quantile of Student's t for 95 % (Abramowitz and Stegun 26.7.5; 0.2 % too low for 4 degrees)."""
    z = _Z
    terms = (z**3 + z) / 4, (5 * z**5 + 16 * z**3 + 3 * z) / 96, (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + sum(term / freedom**power for power, term in enumerate(terms, 1))


def _squared_error(values: Sequence[float]) -> float:
    """Return the square of the standard error of the mean of resamples."""
    mean = fmean(values)
    return sum((value - mean) ** 2 for value in values) / len(values) ** 2


def _resampled_means(values: Sequence[float], seed: int, squared_error: float) -> list[float]:
    number = len(values)
    if number <= _MAX_RESAMPLED:
        return [sum(choose(values)) / number for choose in _choices(number, seed)]
    chance = Random(seed)  # noqa: S311 - not for secrets
    mean, error = fmean(values), math.sqrt(squared_error)
    return [chance.gauss(mean, error) for _ in range(RESAMPLES)]


@lru_cache(maxsize=4)
def _choices(number: int, seed: int) -> list[Callable[[Sequence[float]], tuple[float, ...]]]:
    """Return a selector for each resample of a number of values; shared by all columns of a table."""
    chance = Random(seed)  # noqa: S311 - not for secrets
    return [itemgetter(*chance.choices(range(number), k=number)) for _ in range(RESAMPLES)]


def _acceleration(samples: Sequence[Sequence[float]], signs: Sequence[int], errors: Sequence[float]) -> float:
    """Return the acceleration of the BCa bootstrap: a sixth of the skewness of the jackknife values."""
    cubes = 0.0
    for sign, sample in zip(signs, samples, strict=True):
        mean, number = fmean(sample), len(sample)
        cubes += sign * sum((value - mean) ** 3 for value in sample) / number**3
    squares = sum(errors)
    return cubes / (6 * math.pow(squares, 1.5))

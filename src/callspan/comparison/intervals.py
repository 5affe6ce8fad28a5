"""Intervals: 95 % confidence intervals of shares, of means, and of their differences."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple

FEWEST: Final = 5
"""Fewer values are too few to tell: their means have no interval."""
RESAMPLES: Final = 10_000
_Z: Final = 1.959963984540054
"""The 97.5th percentile of the normal distribution."""
_AT_ONCE: Final = 1_000_000
"""Values that are resampled at once, to bound the memory."""
NO_SCIPY: Final = 'no intervals of means: pip install "callspan[compare]"'


class Interval(NamedTuple):
    """Both bounds."""

    low: float
    high: float


def wilson(successes: int, number: int) -> Interval | None:
    """Return the Wilson score interval of a share; None for no trials."""
    if number == 0:
        return None
    share, spread = successes / number, _Z**2 / number
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * math.sqrt(share * (1 - share) / number + spread / (4 * number)) / (1 + spread)
    # At the ends the exact bound is the share itself.
    return Interval(0.0 if successes == 0 else middle - half, 1.0 if successes == number else middle + half)


def of_shares(first: tuple[int, int], second: tuple[int, int]) -> Interval | None:
    """Return Newcombe's interval of the second share less the first, each successes and trials; None for too few."""
    if min(first[1], second[1]) < FEWEST:
        return None
    a, b = wilson(*first), wilson(*second)
    if a is None or b is None:
        return None
    p, q = first[0] / first[1], second[0] / second[1]
    difference = q - p
    return Interval(difference - math.hypot(q - b.low, a.high - p), difference + math.hypot(b.high - q, p - a.low))


def of_mean(values: Sequence[float]) -> Interval | None:
    """Return the interval of a mean (BCa bootstrap, seed 0); None for too few, all equal, or without scipy."""
    return _bootstrap([values], lambda sample, axis: sample.mean(axis=axis))


def of_means(first: Sequence[float], second: Sequence[float]) -> Interval | None:
    """Return the interval of the second mean less the first, as `of_mean`."""
    return _bootstrap([first, second], lambda a, b, axis: b.mean(axis=axis) - a.mean(axis=axis))


@cache
def has_scipy() -> bool:
    """Return whether intervals of means can be computed."""
    try:
        import_module("scipy.stats")
    except ImportError:
        return False
    return True


def _bootstrap(samples: Sequence[Sequence[float]], statistic: Callable[..., Any]) -> Interval | None:
    finite = all(math.isfinite(value) for sample in samples for value in sample)
    if min(map(len, samples)) < FEWEST or not finite or not has_scipy():
        return None
    if all(min(sample) == max(sample) for sample in samples):
        return None
    stats, random = import_module("scipy.stats"), import_module("numpy.random")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = stats.bootstrap(
            samples,
            statistic,
            n_resamples=RESAMPLES,
            batch=max(1, _AT_ONCE // max(map(len, samples))),
            vectorized=True,
            method="BCa",
            rng=random.default_rng(0),
        ).confidence_interval
    low, high = float(found.low), float(found.high)
    return Interval(low, high) if math.isfinite(low) and math.isfinite(high) else None

"""Estimates over seeds with Student's t intervals, which cover what they say however few the seeds are."""

import math
from typing import NamedTuple

import numpy as np

CONFIDENCE = 0.95


class Estimate(NamedTuple):
    """An estimate with its 95% interval.

    Attributes:
      value: a mean, a geometric mean or a slope, in the unit of what was averaged.
      low: the lower end of the interval; of a single seed minus infinity, or 0 on a logarithmic scale.
      high: the upper end; of a single seed infinity.
      n: the number of seeds.
    """

    value: float
    low: float
    high: float
    n: int


def interval(values, log: bool = False) -> Estimate | None:
    """Returns the mean over seeds with its t interval.

    Args:
      values: one value for each seed; None is left out. Runs that share seeds are compared by giving their differences
        or ratios, seed by seed.
      log: for errors and ratios of errors: the interval is that of the logarithms' mean, transformed back, and the
        value is the geometric mean.

    Returns:
      None if there are no values, or if `log` and they are not all positive; all 0 is 0. NaN if one is not finite.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    if log and known.any():
        if (known <= 0).any():
            return None
        *ends, n = interval(np.log(known))
        return Estimate(*map(math.exp, ends), n)
    if not np.isfinite(known).all():
        return Estimate(math.nan, math.nan, math.nan, len(known))
    return _around(float(known.mean()), *_standard_error(known), len(known))


def order(rates, errors, yardstick=None) -> Estimate | None:
    """Returns the order of convergence: the slope of log error over log learning rate, a least-squares slope a seed.

    A difference between two runs that stays whatever the learning rate has order 0. But runs that differ in next to
    nothing, such as the jitter twin, come nearer to each other too: a small difference is hidden among theirs, and has
    their order. Against them as a yardstick, an error that falls no faster has order 0, and one that stays a negative.

    Args:
      rates: (n,) learning rates.
      errors: (seeds, n) errors.
      yardstick: (seeds, n) errors of the same seeds at the same rates, such as the jitter twin's: the order is then
        that of error / yardstick.

    Returns:
      None if an error is 0 or missing, or there are fewer than two rates.
    """
    found = _logarithms(rates, errors, yardstick)
    if found is None:
        return None
    x, y = found
    return interval(y @ x / (x @ x))


def pooled_order(rates, errors, yardstick=None) -> Estimate | None:
    """Returns the order of convergence from one regression over all seeds: log error = a_seed + p log rate + noise.

    It takes the noise to be independent from rate to rate and of one size, and in return has
    seeds * n - seeds - 1 degrees of freedom, where `order` has seeds - 1: for short ladders with few seeds.

    Args:
      rates: as in `order`.
      errors: as in `order`.
      yardstick: as in `order`.

    Returns:
      As `order` does. A single seed has an interval here if there are three rates.
    """
    found = _logarithms(rates, errors, yardstick)
    if found is None:
        return None
    x, y = found
    slope = float((y @ x).mean() / (x @ x))
    residuals = y - y.mean(axis=1, keepdims=True) - slope * x
    freedom = y.size - len(y) - 1
    variance = (residuals**2).sum() / freedom / (len(y) * (x @ x)) if freedom else math.inf
    return _around(slope, math.sqrt(variance), freedom, len(y))


def _logarithms(rates, errors, yardstick) -> tuple[np.ndarray, np.ndarray] | None:
    """Returns the centred logarithms of the rates and those of the errors; None where there is no slope."""
    rates, errors = np.asarray(rates, np.float64), np.asarray(errors, np.float64)
    yardstick = np.ones_like(errors) if yardstick is None else np.asarray(yardstick, np.float64)
    if len(rates) < 2 or not ((errors > 0) & (yardstick > 0)).all():
        return None
    return np.log(rates) - np.log(rates).mean(), np.log(errors / yardstick)


def _standard_error(values: np.ndarray) -> tuple[float, int]:
    """Returns the standard error of the mean and its degrees of freedom."""
    freedom = len(values) - 1
    return (float(values.std(ddof=1)) / math.sqrt(len(values)) if freedom else math.inf), freedom


def _around(value: float, error: float, freedom: int, n: int) -> Estimate:
    """Returns the estimate with its t interval; without degrees of freedom its ends are infinite."""
    from scipy.special import stdtrit  # late: a run of one seed needs no interval

    half = float(stdtrit(freedom, (1 + CONFIDENCE) / 2)) * error if freedom else math.inf
    return Estimate(value, value - half, value + half, n)

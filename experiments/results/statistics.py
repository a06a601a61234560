"""Statistics over seeds."""

import numpy as np
from scipy import stats

CONFIDENCE = 0.95
_RESAMPLES = 9_999


def interval(values) -> tuple[float, float, float] | None:
    """Returns (mean, low, high), with the 95% bootstrap interval of the mean, by percentiles.

    Args:
      values: one value for each seed; None is left out.

    Returns:
      None if there are no values. The ends equal the mean if there is a single value, or all values are equal.
    """
    known = np.array([value for value in values if value is not None], np.float64)
    if not len(known):
        return None
    mean = float(known.mean())
    if (known == known[0]).all():
        return mean, mean, mean
    found = stats.bootstrap(
        (known,), np.mean, n_resamples=_RESAMPLES, method='percentile', confidence_level=CONFIDENCE, rng=0
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def order(rates, errors) -> tuple[float, float, float] | None:
    """Returns (slope, low, high) of log error over log learning rate, with its 95% bootstrap interval over seeds.

    Args:
      rates: (n,) learning rates.
      errors: (seeds, n) positive errors.

    Returns:
      None if an error is 0, or there are fewer than two rates.
    """
    rates, errors = np.log(np.asarray(rates, np.float64)), np.asarray(errors, np.float64)
    if len(rates) < 2 or not (errors > 0).all():
        return None
    # A least-squares slope is linear in the errors' logarithms: the mean of the seeds' slopes is the slope of the mean.
    centred = rates - rates.mean()
    return interval((np.log(errors) @ centred) / (centred @ centred))

"""Intervals over seeds cover what they say, also of few seeds; a single seed has none."""

import math

import numpy as np
import pytest

from experiments.results.pages import with_interval
from experiments.results.statistics import Estimate, interval, order, pooled_order

REPETITIONS = 2_000  # the share that covers is known to half a percent
RATES = (0.04, 0.02, 0.01)


def covering(estimates, truth) -> float:
    return np.mean([found.low <= truth <= found.high for found in estimates])


@pytest.mark.parametrize('seeds', [3, 5, 10])
def test_95_of_100_intervals_cover(seeds):
    random = np.random.default_rng(seeds)
    normal = random.normal(-1, 2, (REPETITIONS, seeds))
    assert 0.93 < covering(map(interval, normal), -1) < 0.97
    assert 0.93 < covering((interval(values, log=True) for values in np.exp(normal)), math.exp(-1)) < 0.97


@pytest.mark.parametrize('seeds', [3, 5, 10])
@pytest.mark.parametrize('fitted', [order, pooled_order])
def test_95_of_100_orders_cover(seeds, fitted):
    random = np.random.default_rng(seeds)
    jitter = np.exp(random.normal(size=(REPETITIONS, seeds, 1)) + 0.4 * np.log(RATES))
    errors = jitter * np.exp(0.4 * np.log(RATES) + random.normal(scale=0.3, size=(REPETITIONS, seeds, 3)))
    assert 0.93 < covering((fitted(RATES, *pair) for pair in zip(errors, jitter)), 0.4) < 0.97
    assert 0.93 < covering((fitted(RATES, of_one) for of_one in errors), 0.8) < 0.97


def test_what_is_averaged():
    assert interval([1.0, None, 3.0, 5.0]) == pytest.approx((3, 3 - 4.9683, 3 + 4.9683, 3), abs=1e-4)  # t = 4.3027
    assert interval([1.0, 4.0], log=True).value == pytest.approx(2)
    assert interval([0.0, 0.0], log=True) == (0, 0, 0, 2) and interval([0.0, 1.0], log=True) is None
    assert interval([None]) is None and math.isnan(interval([1.0, math.inf], log=True).value)


def test_a_single_seed_has_no_interval():
    assert interval([3.0]) == (3, -math.inf, math.inf, 1) and interval([1.0], log=True) == (1, 0, math.inf, 1)
    assert with_interval(interval([3.0])) == '3 (n = 1)' and with_interval(None) == '–'
    assert with_interval(Estimate(0.54821, 0.49, 0.5934, 5)) == '0.548 [0.49, 0.593] (n = 5)'
    assert with_interval(interval([0.0, 0.0])) == '0 (n = 2)'


@pytest.mark.parametrize('fitted', [order, pooled_order])
def test_the_order_is_the_slope_of_logarithms(fitted):
    errors = [[c * rate**1.5 for rate in RATES] for c in (1, 2, 3)]
    jitter = [[c * rate**0.5 for rate in RATES] for c in (3, 1, 2)]
    assert fitted(RATES, errors) == pytest.approx((1.5, 1.5, 1.5, 3))
    assert fitted(RATES, errors, jitter) == pytest.approx((1, 1, 1, 3))
    assert fitted([0.1, 0.2], [[1, 2]]) == pytest.approx((1, -math.inf, math.inf, 1))
    assert fitted(RATES, [[0, 1, 1]]) is None and fitted(RATES, [[None, 1, 1]]) is None and fitted([0.1], [[1]]) is None
    assert fitted(RATES, errors, [[0, 1, 1]] * 3) is None


def test_a_regression_over_all_seeds_is_the_textbooks():
    """Against least squares with a column for every seed."""
    errors = np.exp(np.random.default_rng(0).normal(size=(2, 3)))
    design = np.hstack([np.repeat(np.eye(2), 3, axis=0), np.tile(np.log(RATES), 2)[:, None]])
    solution, (residue,), *_ = np.linalg.lstsq(design, np.log(errors).ravel())
    half = 3.182446 * math.sqrt(residue / 3 * np.linalg.inv(design.T @ design)[2, 2])  # t of 6 - 2 - 1 degrees
    slope = solution[2]
    assert pooled_order(RATES, errors) == pytest.approx((slope, slope - half, slope + half, 2))

"""Which estimators the theorem covers: its conditions on the slope s, checked by sampling and quadrature.

The conditions (arXiv 2405.05171, section 3): 0 < s < infinity inside the range, s Lipschitz, the same in every cell and
at all times. Derived: the half cells at the ends of the range ask for equal integrals of 1/s on both sides of a
threshold.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from qat.estimators import Estimator

PANELS = 2**14  # of the quadrature over one cell
TOLERANCE = 1e-6
_GRID = np.linspace(-0.5, 0.5, 2**12 + 1)  # of a cell


class NotCovered(ValueError):
    """The estimator, or the optimizer with it, has no known recipe; the message says why."""


def sampled(estimator: Estimator, r: np.ndarray) -> np.ndarray:
    """The slope at offsets r, any shape, in float64; evaluated now, also while a program is being traced.

    A slope that asks for the incoming gradient gets 1, one that asks for the progress gets 0.
    """
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        return np.asarray(estimator(jnp.asarray(r)), np.float64)


@functools.lru_cache(maxsize=64)
def extremes(estimator: Estimator) -> tuple[float, float]:
    """The least and the largest value of the slope over a cell."""
    s = sampled(estimator, _GRID)
    return float(s.min()), float(s.max())


@functools.lru_cache(maxsize=64)
def steepness(estimator: Estimator) -> float:
    """max |d ln s / dr| inside a cell, by differences over 2^12 intervals: how fast the slope changes, per step size.

    At a jump this is |ln of the ratio| x 2^12: large, but finite. Infinite where the slope is not positive and finite.
    """
    s = sampled(estimator, _GRID)
    if not ((s > 0) & (s < np.inf)).all():
        return float('inf')
    return float(np.abs(np.diff(np.log(s))).max() * (_GRID.size - 1))


@functools.lru_cache(maxsize=64)
def quadrature(estimator: Estimator) -> tuple[np.ndarray, np.ndarray]:
    """F(r) = integral of dx/s(x) from 0 to r, by four-point Gauss-Legendre on each panel.

    Returns:
      `(nodes, F)`, each (PANELS + 1,) float64: equidistant nodes of [-1/2, 1/2], and F there. Between nodes, linear
      interpolation is exact to about 1e-8.
    """
    nodes = np.linspace(-0.5, 0.5, PANELS + 1)
    points, gauss = np.polynomial.legendre.leggauss(4)
    inside = (nodes[:-1, None] + nodes[1:, None]) / 2 + points * (0.5 / PANELS)
    panels = (1 / sampled(estimator, inside)) @ (gauss / 2 / PANELS)
    cumulative = np.concatenate([[0.0], np.cumsum(panels)])
    return nodes, cumulative - cumulative[PANELS // 2]


@functools.lru_cache(maxsize=64)
def conditions_that_fail(estimator: Estimator) -> tuple[str, ...]:
    """Why the theorem does not cover the estimator, a reason each; empty where it does."""
    if estimator.needs('gradient'):
        return ('its slope depends on the incoming gradient',)
    if estimator.needs('progress'):
        return ('its slope changes with time',)
    nodes = np.linspace(-0.5, 0.5, PANELS + 1)
    s = sampled(estimator, nodes)
    bad = ~((s > 0) & (s < np.inf))
    if bad.any():
        return (f'its slope is {s[bad][0]:.3g} at r = {nodes[bad][0]:.3g}, not positive and finite',)
    reasons = []
    if _jumps(s):
        reasons.append('its slope jumps, so it is not Lipschitz')
    _, cumulative = quadrature(estimator)
    lower, upper = -cumulative[0], cumulative[-1]
    if abs(upper - lower) > TOLERANCE * (upper + lower):
        reasons.append(
            f'the integral of 1/s is {lower:.4g} below a threshold and {upper:.4g} above it, '
            'so M does not map the half cells at the ends of the range onto themselves'
        )
    return tuple(reasons)


def check_covered(estimator: Estimator) -> None:
    """Refuses an estimator that the theorem does not cover.

    Raises:
      NotCovered: with every condition that fails.
    """
    reasons = conditions_that_fail(estimator)
    if reasons:
        raise NotCovered(f'the theorem does not cover {estimator}: {"; ".join(reasons)}')


def _jumps(s: np.ndarray) -> bool:
    """Whether the largest step between neighbouring samples fails to shrink with the grid."""
    fine = max(np.abs(np.diff(s)).max(), abs(s[0] - s[-1]))
    coarse = np.abs(np.diff(s[::8])).max()
    return bool(fine > 1e-3 * s.max() and fine > coarse / 2)

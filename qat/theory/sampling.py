"""A slope over one cell, looked at point by point: its extremes, its steepness, where it is 0 and where it jumps."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from qat.estimators import Estimator

GRID = np.linspace(-0.5, 0.5, 2**12 + 1)  # of a cell; what is narrower than its spacing may be missed
ROUNDING = 2.0**-20  # of the largest value: a slope written with float32 constants is 0 to so much
_SPACING = 1 / (GRID.size - 1)
_BLOCK = 2**13  # points that are evaluated together: one shape, hence one compilation a slope
_FOLLOWED, _BENDS = 64, 256  # of the grid's lowest points, and of the intervals where a slope bends most
_LOW = 0.1  # of the largest value; a minimum above it is no zero
_ZERO = 2.0**-40  # of the largest value: what float64 cannot tell from 0 where a slope is a difference
_POWER = 0.02  # a slope that falls like this power of the distance, or a higher one, falls to 0
_JUMP = 1e-3  # of the largest value
BREAK = 2.0**-36  # how narrowly a break is enclosed
_STEEP = 2.0**20  # largest values a cell: no Lipschitz constant that float32 could tell from a jump


@functools.partial(jax.jit, static_argnums=0)
def _evaluated(estimator: Estimator, r: jax.Array) -> jax.Array:
    return estimator(r)


def sampled(estimator: Estimator, r: np.ndarray, *, single: bool = False) -> np.ndarray:
    """The slope at offsets r, any shape, as float64; evaluated now, also while a program is being traced.

    A slope that asks for the incoming gradient gets 1, one that asks for the progress gets 0.

    Args:
      estimator: whose slope.
      r: offsets from a threshold in units of the step size, in [-1/2, 1/2].
      single: whether the slope computes in float32, as in training, instead of float64.
    """
    r = np.asarray(r, np.float32 if single else np.float64)
    blocks = np.zeros((-(-r.size // _BLOCK), _BLOCK), r.dtype)
    blocks.ravel()[: r.size] = r.ravel()
    with jax.ensure_compile_time_eval(), jax.enable_x64(not single):
        s = [np.asarray(_evaluated(estimator, jnp.asarray(block)), np.float64) for block in blocks]
    return np.concatenate([*s, []])[: r.size].reshape(r.shape)


@functools.lru_cache(maxsize=64)
def extremes(estimator: Estimator) -> tuple[float, float]:
    """The least and the largest value of the slope over a cell."""
    s = sampled(estimator, GRID)
    return float(s.min()), float(s.max())


@functools.lru_cache(maxsize=64)
def steepness(estimator: Estimator) -> float:
    """max |d ln s / dr| inside a cell, by differences over 2^12 intervals: how fast the slope changes, per step size.

    At a jump this is |ln of the ratio| x 2^12: large, but finite. Infinite where the slope is not positive and finite.
    """
    s = sampled(estimator, GRID)
    if not ((s > 0) & (s < np.inf)).all():
        return float('inf')
    return float(np.abs(np.diff(np.log(s))).max() / _SPACING)


@functools.lru_cache(maxsize=64)
def zeros(estimator: Estimator) -> tuple[float, ...]:
    """Where a slope that is nowhere negative falls to 0, in order: every local minimum of the grid is looked into."""
    s = sampled(estimator, GRID)
    around = np.pad(s, 1, constant_values=np.inf)
    low = np.flatnonzero((s <= around[:-2]) & (s <= around[2:]) & (s < _LOW * s.max()))
    if not low.size:
        return ()
    r = GRID[low[np.argsort(s[low], kind='stable')[:_FOLLOWED]]]
    negligible, width = _ZERO * s.max(), _SPACING
    while width > 2.0**-52:
        near = np.clip(r[:, None] + width * np.linspace(-1, 1, 9), -0.5, 0.5)
        s = sampled(estimator, near)
        s[:, 4] -= negligible / 32  # the middle, unless another is lower by more than rounding
        r, width = near[np.arange(r.size), s.argmin(axis=1)], width / 4
    lowest = sampled(estimator, r)
    is_zero = (lowest <= 0) | ((lowest <= negligible) & _falls(estimator, r, 16)) | _falls(estimator, r, 40)
    found = np.sort(r[is_zero])
    return tuple(found[np.diff(found, prepend=-np.inf) > 2 * _SPACING].tolist())


def _falls(estimator: Estimator, r: np.ndarray, exponent: int) -> np.ndarray:
    """Whether the slope near each of r is a power of the distance, from 2^-exponent of a cell to a 16th of that."""
    distances = 2.0 ** -np.array([[exponent], [exponent], [exponent + 4], [exponent + 4]]) * [[1], [-1], [1], [-1]]
    sides = sampled(estimator, np.clip(r + distances, -0.5, 0.5))
    with np.errstate(divide='ignore', invalid='ignore'):
        return np.log2(sides[:2].max(axis=0) / sides[2:].max(axis=0)) > 4 * _POWER


@dataclasses.dataclass(frozen=True)
class Break:
    """Where a slope is not Lipschitz: an offset, good to 2^-36 below it, and whether it jumps there or is vertical."""

    r: float
    jumps: bool


@functools.lru_cache(maxsize=64)
def breaks(estimator: Estimator) -> tuple[Break, ...]:
    """The places in a cell where a slope is not Lipschitz, in order.

    The intervals of the grid where it bends most are followed to intervals of 2^-36. A slope is the same in every cell,
    so that its two ends meet in the middle between two thresholds: r = 1/2 stands for both.
    """
    s = sampled(estimator, GRID)
    largest, bends = s.max(), np.abs(np.diff(s, 2))
    bends = np.maximum(np.append(bends, 0), np.append(0, bends))
    left = GRID[np.argsort(-bends, kind='stable')[:_BENDS]]
    width, steps = _SPACING, np.full(left.size, np.inf)
    while width > BREAK:
        before, nodes = steps, left[:, None] + width * np.linspace(0, 1, 17)
        parts = np.abs(np.diff(sampled(estimator, nodes), axis=1))
        left, width, steps = nodes[np.arange(left.size), parts.argmax(axis=1)], width / 16, parts.max(axis=1)
    found = [
        Break(float(left[place]), bool(steps[place] > max(_JUMP * largest, 0.9 * before[place])))
        for place in np.argsort(left)
        if steps[place] > _STEEP * width * largest
    ]
    return (*found, *([Break(0.5, True)] if abs(s[0] - s[-1]) > _JUMP * largest else []))

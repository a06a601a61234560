"""The theorem as code: when, and how, an estimator is STE in disguise (arXiv 2405.05171).

With slope s, the weights w of an estimator and the weights v of STE keep step as v = M(w), where
  alpha = 1 / (integral of dr/s(r) over r in [-1/2, 1/2])           the harmonic mean of s,
  M(w)  = T + alpha D F(r),   F(r) = integral of dx/s(x) from 0 to r,
T the threshold nearest to w and r = (w - T)/D. M is increasing, fixes every threshold and keeps
every code. Under SGD, STE takes alpha times the learning rate and starts from M(w0); under
coordinate-normalised optimizers such as Adam nothing changes.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from qat.estimators import Estimator
from qat.quantizers import UniformQuantizer
from qat.slopes import rdfs_amplitude

PANELS = 2**14  # of the quadrature over one cell
TOLERANCE = 1e-6


class NotCovered(ValueError):
    """The estimator, or the optimizer with it, has no known recipe; the message says why."""


@dataclasses.dataclass(frozen=True)
class Antiderivative:
    """F(r) = integral of dx/s(x) from 0 to r and its inverse, elementwise; `inverse` None: by quadrature."""

    value: Callable
    inverse: Callable | None = None


def _identity(estimator) -> Antiderivative:
    return Antiderivative(lambda r: r, lambda y: y)


def _sech_squared(u: float) -> Antiderivative:
    return Antiderivative(lambda r: jnp.tanh(u) / u * (r / 2 + jnp.sinh(4 * u * r) / (8 * u)))


def _sine(lam: float) -> Antiderivative:
    ratio, root = np.sqrt((1 - lam) / (1 + lam)), np.sqrt(1 - lam**2)
    return Antiderivative(
        lambda r: jnp.arctan2(ratio * jnp.sin(jnp.pi * r), jnp.cos(jnp.pi * r)) / (jnp.pi * root),
        lambda y: jnp.arctan2(jnp.sin(jnp.pi * root * y), ratio * jnp.cos(jnp.pi * root * y)) / jnp.pi,
    )


def _rdfs(A: float) -> Antiderivative:
    def value(r):
        c = rdfs_amplitude(A)
        q = jnp.sqrt(1 - c**2)
        t = jnp.tan(jnp.pi / 2 * jnp.abs(r))
        return jnp.sign(r) * (4 / (jnp.pi * q) * jnp.arctan2(q * t, 1 - c * t) - jnp.abs(r))

    return Antiderivative(value)


def _dge(k: float, clamp: float) -> Antiderivative:
    p = 2 - 1 / k
    # |2r| below which the clamp rules
    knee = float(clamp < 1) if k == 1 else float(min(1, (k * clamp) ** (k / (1 - k))))

    def value(r):
        x = jnp.abs(2 * r)
        beyond = k / p * (jnp.maximum(x, knee) ** p - knee**p)
        return jnp.sign(r) / 2 * (jnp.minimum(x, knee) / clamp + beyond)

    def inverse(y):
        z = jnp.abs(2 * y)
        beyond = (jnp.maximum(z - knee / clamp, 0) * p / k + knee**p) ** (1 / p)
        return jnp.sign(y) / 2 * jnp.where(z <= knee / clamp, z * clamp, beyond)

    return Antiderivative(value, inverse)


CLOSED_FORMS: dict[str, Callable[[Estimator], Antiderivative]] = {
    'ste': _identity,
    'mad': _identity,
    'dsq': lambda estimator: _sech_squared(dict(estimator.parameters)['k'] / (2**estimator.bits - 1)),
    'soft_round': lambda estimator: _sech_squared(dict(estimator.parameters)['a'] / 2),
    'sine': lambda estimator: _sine(**dict(estimator.parameters)),
    'rdfs': lambda estimator: _rdfs(**dict(estimator.parameters)),
    'dge': lambda estimator: _dge(**dict(estimator.parameters)),
}


@functools.lru_cache(maxsize=64)
def quadrature(estimator: Estimator) -> tuple[np.ndarray, np.ndarray]:
    """F at PANELS + 1 equidistant nodes of [-1/2, 1/2], float64: four-point Gauss-Legendre on each panel.

    Returns:
      `(nodes, F)`, with F(0) = 0. Between nodes, linear interpolation is exact to about 1e-8.
    """
    nodes = np.linspace(-0.5, 0.5, PANELS + 1)
    points, gauss = np.polynomial.legendre.leggauss(4)
    inside = (nodes[:-1, None] + nodes[1:, None]) / 2 + points * (0.5 / PANELS)
    with jax.enable_x64(True):
        panels = (1 / np.asarray(estimator(jnp.asarray(inside)), np.float64)) @ (gauss / 2 / PANELS)
    cumulative = np.concatenate([[0.0], np.cumsum(panels)])
    return nodes, cumulative - cumulative[PANELS // 2]


def antiderivative(estimator: Estimator, *, closed_form: bool = True) -> Antiderivative:
    """F and its inverse: in closed form where one is known (and asked for), else by quadrature."""
    # A user's file may define a `sine` of its own: the closed form belongs to the catalogue's function.
    if closed_form and estimator.catalogued and estimator.name in CLOSED_FORMS:
        exact = CLOSED_FORMS[estimator.name](estimator)
        return exact if exact.inverse else Antiderivative(exact.value, _by_quadrature(estimator).inverse)
    return _by_quadrature(estimator)


def _by_quadrature(estimator: Estimator) -> Antiderivative:
    nodes, values = (np.float32(array) for array in quadrature(estimator))
    return Antiderivative(lambda r: jnp.interp(r, nodes, values), lambda y: jnp.interp(y, values, nodes))


def conditions_that_fail(estimator: Estimator) -> tuple[str, ...]:
    """Why the theorem does not cover the estimator, a reason each; empty where it does."""
    if estimator.needs('gradient'):
        return ('its slope depends on the incoming gradient',)
    if estimator.needs('progress'):
        return ('its slope changes with time',)
    nodes = np.linspace(-0.5, 0.5, PANELS + 1)
    with jax.enable_x64(True):
        s = np.asarray(estimator(jnp.asarray(nodes)), np.float64)
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


def _jumps(s: np.ndarray) -> bool:
    """Whether the largest step between neighbouring samples fails to shrink with the grid."""
    fine = max(np.abs(np.diff(s)).max(), abs(s[0] - s[-1]))
    coarse = np.abs(np.diff(s[::8])).max()
    return bool(fine > 1e-3 * s.max() and fine > coarse / 2)


def alpha(estimator: Estimator) -> float:
    """The harmonic mean of the slope over a cell: the factor of STE's learning rate.

    Raises:
      NotCovered: where the theorem's conditions fail.
    """
    reasons = conditions_that_fail(estimator)
    if reasons:
        raise NotCovered(f'the theorem does not cover {estimator}: {"; ".join(reasons)}')
    with jax.enable_x64(True):
        ends = np.asarray(antiderivative(estimator).value(jnp.asarray([-0.5, 0.5], jnp.float64)))
    return float(1 / (ends[1] - ends[0]))


class WeightMap:
    """M, from an estimator's weights to those of its STE twin, elementwise in float32.

    M is increasing, fixes every threshold, and `codes(M(w)) == codes(w)` for every float32 w: what
    float32 gets wrong is clamped into the cell. Raises NotCovered where there is no M.
    """

    def __init__(self, estimator: Estimator, *, closed_form: bool = True):
        self.alpha = alpha(estimator)
        self.estimator = estimator
        self._quantizer = UniformQuantizer(estimator.bits)
        self._antiderivative = antiderivative(estimator, closed_form=closed_form)

    def __call__(self, weights: jax.Array, range: jax.Array) -> jax.Array:
        """M(w), shaped like `weights`; `range` broadcasts against them."""
        return self._map(weights, range, self.on_offsets, _mad_outside)

    def on_offsets(self, r: jax.Array) -> jax.Array:
        """alpha F(r): what M makes of an offset from a threshold, both in units of the step."""
        return self.alpha * self._antiderivative.value(r)

    def inverse(self, weights: jax.Array, range: jax.Array) -> jax.Array:
        """M^-1(v), from STE's weights back to the estimator's."""
        return self._map(weights, range, lambda y: self._antiderivative.inverse(y / self.alpha), _mad_outside_inverse)

    def _map(self, weights, range, inside, mad_outside):
        _, r = self._quantizer.nearest_threshold(weights, range)
        moved = weights + self._quantizer.step(range) * (inside(r) - r)  # exactly w where s is constant
        kept = self._quantizer.clip_to_cell(moved, self._quantizer.codes(weights, range), range)
        outside = range * mad_outside(weights / range) if self.estimator.passes_outside else weights
        return jnp.where(jnp.abs(weights) <= range, kept, outside)


def _mad_outside(x):
    """M / R at |x| = |w| / R >= 1 for the slope 1 / |x|."""
    return jnp.sign(x) * (1 + x**2) / 2


def _mad_outside_inverse(x):
    return jnp.sign(x) * jnp.sqrt(jnp.maximum(2 * jnp.abs(x) - 1, 1))


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What makes STE train like the estimator: a factor on the learning rate of the quantized
    kernels, and whether they start from M(w0) instead of w0."""

    learning_rate_factor: float
    remaps_initialization: bool


UNCHANGED = Recipe(1.0, False)


def recipe(estimator: Estimator, transfer_class: str, reason: str = '') -> Recipe:
    """The recipe for an estimator under an optimizer of this transfer class.

    Args:
      estimator: the one to replace.
      transfer_class: 'map', 'identity' or 'none', see `qat.optimizers`.
      reason: why the class is what it is, for the message.

    Raises:
      NotCovered: where no recipe is known.
    """
    if transfer_class == 'none':
        raise NotCovered(f'no recipe is known: {reason}')
    factor = alpha(estimator)
    return Recipe(factor, True) if transfer_class == 'map' else UNCHANGED

"""The theorem's alpha and its map M, from the weights of an estimator to those of its STE twin.

With slope s, the weights w of an estimator and the weights v of STE keep step as v = M(w), where
  alpha = 1 / (integral of dr/s(r) over r in [-1/2, 1/2])           the harmonic mean of s,
  M(w)  = T + alpha D F(r),   F(r) = integral of dx/s(x) from 0 to r,
T the threshold nearest to w, D the step size and r = (w - T)/D (arXiv 2405.05171, theorem 1). M is increasing, fixes
every threshold and keeps every code. Outside the range M follows from the clip rule.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from qat.estimators import Estimator
from qat.theory.closed_forms import Antiderivative
from qat.theory.coverage import check_covered, conditions_that_fail
from qat.theory.quadrature import quadrature


def antiderivative(estimator: Estimator, *, closed_form: bool = True) -> Antiderivative:
    """F and its inverse: in closed form where one is known (and asked for), else by quadrature."""
    if not closed_form or estimator.closed_form is None:
        return _by_quadrature(estimator)
    exact = estimator.closed_form(estimator.bits, **dict(estimator.parameters))
    return exact if exact.inverse else Antiderivative(exact.value, _by_quadrature(estimator).inverse)


def _by_quadrature(estimator: Estimator) -> Antiderivative:
    found = quadrature(estimator)
    _, kept = np.unique(np.float32(found.nodes), return_index=True)  # panels may be finer than float32
    nodes, values = np.float32(found.nodes[kept]), np.float32(found.F[kept])
    return Antiderivative(lambda r: jnp.interp(r, nodes, values), lambda y: jnp.interp(y, values, nodes))


@functools.lru_cache(maxsize=64)
def alpha(estimator: Estimator) -> float:
    """The harmonic mean of the slope over a cell: the factor on STE's learning rate.

    Raises:
      NotCovered: where the theorem's conditions fail.
    """
    check_covered(estimator)
    if estimator.closed_form is None:
        F = quadrature(estimator).F
        return float(1 / (F[-1] - F[0]))
    with jax.ensure_compile_time_eval(), jax.enable_x64(True):
        ends = np.asarray(jax.jit(antiderivative(estimator).value)(np.array([-0.5, 0.5])))
    return float(1 / (ends[1] - ends[0]))


def alpha_if_covered(estimator: Estimator) -> float | None:
    """The same, and None where the theorem's conditions fail, those of transfer class 'map'."""
    return None if conditions_that_fail(estimator) else alpha(estimator)


def positive_slope(estimator: Estimator, weights: jax.Array, R: jax.Array) -> jax.Array:
    """s(w), shaped like the weights, and alpha where it is 0, outside of the range: positive everywhere.

    1 stands in for an alpha that does not exist, as any positive number may without M.
    """
    slope = estimator.at(weights, R)
    return jnp.where(slope > 0, slope, alpha_if_covered(estimator) or 1.0)


class WeightMap:
    """M, elementwise in float32.

    `codes(M(w)) == codes(w)` for every float32 w: what float32 gets wrong is clamped into the cell.

    Raises:
      NotCovered: where there is no M.
    """

    def __init__(self, estimator: Estimator, *, closed_form: bool = True):
        self.alpha = alpha(estimator)
        self.estimator = estimator
        self._antiderivative = antiderivative(estimator, closed_form=closed_form)

    def __call__(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        """M(w), shaped like `weights` (any shape); R broadcasts against them."""
        inside = self._within_cells(weights, R, self.on_offsets)
        outside = self.estimator.clip.map(weights, R, self.alpha)
        return jnp.where(jnp.abs(weights) <= R, inside, outside)

    def inverse(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        """M^-1(v), from STE's weights back to the estimator's; shapes as in a call."""
        inside = self._within_cells(weights, R, lambda y: self._antiderivative.inverse(y / self.alpha))
        outside = self.estimator.clip.unmap(weights, R, self.alpha)
        return jnp.where(jnp.abs(weights) <= R, inside, outside)

    def on_offsets(self, r: jax.Array) -> jax.Array:
        """alpha F(r): what M makes of an offset from a threshold, both in units of the step size."""
        return self.alpha * self._antiderivative.value(r)

    def _within_cells(self, weights, R, moved_offset):
        quantizer = self.estimator.quantizer
        place = quantizer.place(weights, R)
        moved = weights + place.width * (moved_offset(place.offset) - place.offset)  # exactly w where s is constant
        return quantizer.clip_to_cell(moved, quantizer.codes(weights, R), R)

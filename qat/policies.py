"""Range policies: what becomes of the range of a weight in training.

fixed      R comes from the initial weights and stays.
dynamic    R is computed again from the weights before every step, and is a constant in the gradient, as the scales of
           BitNet b1.58 (arXiv 2402.17764) and of dynamic quantization are.
learned    the step size D is trained beside w, LSQ (Esser et al. 2020, arXiv 1902.08153): q = D round(w/D),
           dq/dD = round(w/D) - w/D inside the range and the outermost value outside (there, equation 3).
learned_u  D is trained beside u = w/D, which is what is stored and trained in the place of w: q = D round(u) and
           dq/dD = round(u), which reads codes only, dq/du = D s(u).

Whether STE keeps step with an estimator through M depends on it (derived). The theorem's v = M(w) is for a range that
stays: `fixed`, and `learned_u`, in which the range of u stays while D moves the same way in both runs. `dynamic` and
`learned` read the latent weights, in which the runs differ: no recipe where the weights go through M; where they do not
(class `identity`), nothing changes.

A trained D gets its gradient times 1/sqrt(N Q), N the weights that share it and Q the largest value over D, so that it
moves about as fast as its weights do (LSQ, section 2.2).
"""

import abc
import dataclasses
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from qat import calls
from qat.estimators import Estimator, fake_quantize
from qat.quantizers import Quantizer
from qat.ranges import RangeRule

_LEAST = jnp.finfo(jnp.float32).tiny  # of a range that moves


class Begun(NamedTuple):
    """A weight before the first step.

    Attributes:
      weights: what is stored and trained: w, or u.
      R: its range, in their unit, kept for the whole training.
      step_size: D, which is trained; None where it is not. Shaped like the R of the range rule.
    """

    weights: jax.Array
    R: jax.Array
    step_size: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class RangePolicy(abc.ABC):
    """What becomes of a range; frozen and hashable.

    Attributes:
      rule: the initial weights -> their R.
    """

    rule: RangeRule

    why_moving = ''  # where the range moves in the weights' unit, so that there is no M: what it depends on, for people
    learns = False  # whether a step size is trained

    def begin(self, weights: jax.Array, quantizer: Quantizer) -> Begun:
        """Of the initial weights w, float32."""
        return Begun(weights, self.rule(weights))

    def current(self, weights: jax.Array, R: jax.Array, step_size: jax.Array | None, quantizer: Quantizer) -> jax.Array:
        """The range in which weights are rounded now, in their unit; of the arguments see `Begun`."""
        return R

    @abc.abstractmethod
    def read(self, estimator: Estimator, begun: Begun, progress: jax.Array) -> jax.Array:
        """The quantized weights as the model reads them, with their gradients; `begun` as it has become by now."""


class Fixed(RangePolicy):
    """R stays."""

    def read(self, estimator: Estimator, begun: Begun, progress: jax.Array) -> jax.Array:
        return fake_quantize(estimator, begun.weights, begun.R, progress)


class Dynamic(RangePolicy):
    """R is the rule's, of the current weights."""

    why_moving = 'its range is computed from the latent weights at every step (a fixed one would have a recipe)'

    def current(self, weights: jax.Array, R: jax.Array, step_size: jax.Array | None, quantizer: Quantizer) -> jax.Array:
        return jnp.maximum(jax.lax.stop_gradient(self.rule(weights)), _LEAST)

    def read(self, estimator: Estimator, begun: Begun, progress: jax.Array) -> jax.Array:
        return fake_quantize(estimator, begun.weights, self.current(*begun, estimator.quantizer), progress)


class Learned(RangePolicy):
    """D is trained beside w."""

    why_moving = 'its step size is trained by a gradient that reads the latent weights (learned_u would have a recipe)'
    learns = True

    def begin(self, weights: jax.Array, quantizer: Quantizer) -> Begun:
        R = self.rule(weights)
        return Begun(weights, R, _step_size(weights, R, quantizer))

    def current(self, weights: jax.Array, R: jax.Array, step_size: jax.Array | None, quantizer: Quantizer) -> jax.Array:
        return jnp.maximum(step_size, _LEAST) / quantizer.step_size(1.0)

    def read(self, estimator: Estimator, begun: Begun, progress: jax.Array) -> jax.Array:
        weights, quantizer = begun.weights, estimator.quantizer
        R = jax.lax.stop_gradient(self.current(*begun, quantizer))
        rounded = fake_quantize(estimator, weights, R, progress)
        # Of q/D - w/D; it is a number here, and its product with what is 0 but for the gradient carries that of D.
        constant, D = jax.lax.stop_gradient(weights), R * quantizer.step_size(1.0)
        of_step = (quantizer.quantize(constant, R) - jnp.where(jnp.abs(constant) <= R, constant, 0)) / D
        trained = _slowed(begun.step_size, weights, quantizer)
        return rounded + of_step * (trained - jax.lax.stop_gradient(trained))


class LearnedUnits(RangePolicy):
    """D is trained beside u = w/D."""

    learns = True

    def begin(self, weights: jax.Array, quantizer: Quantizer) -> Begun:
        D = _step_size(weights, self.rule(weights), quantizer)
        return Begun(weights / D, jnp.full_like(D, 1 / quantizer.step_size(1.0)), D)

    def read(self, estimator: Estimator, begun: Begun, progress: jax.Array) -> jax.Array:
        values = fake_quantize(estimator, begun.weights, begun.R, progress)
        return values * _slowed(begun.step_size, begun.weights, estimator.quantizer)


POLICIES = {'fixed': Fixed, 'dynamic': Dynamic, 'learned': Learned, 'learned_u': LearnedUnits}


def policy(name: str) -> type[RangePolicy]:
    """The policy of this name: a range rule -> a `RangePolicy`.

    Raises:
      ValueError: there is none.
    """
    if name not in POLICIES:
        raise ValueError(calls.unknown('range policy', name, POLICIES))
    return POLICIES[name]


def _step_size(weights: jax.Array, R: jax.Array, quantizer: Quantizer) -> jax.Array:
    if R.size == weights.size > 1:
        raise ValueError('a learned step size is of a layer or a channel, and this range rule gives every weight its R')
    return quantizer.step_size(R)


def _slowed(step_size: jax.Array, weights: jax.Array, quantizer: Quantizer) -> jax.Array:
    """D itself, its gradient times 1/sqrt(N Q)."""
    factor = 1 / math.sqrt(weights.size / step_size.size / quantizer.step_size(1.0))
    return factor * step_size + jax.lax.stop_gradient((1 - factor) * step_size)

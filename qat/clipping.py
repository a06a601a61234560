"""Clip rules: the slope of an estimator outside the range [-R, R], an axis of its own beside the slope inside.

Outside, a slope depends on x = |w| / R > 1 alone. The map M of the theorem follows from it by the same integral as
inside, dM/dw = alpha s_twin / s, with an STE twin that passes gradients outside (s_twin = 1) where the estimator does:
M(w) = sgn(w) R (1 + alpha G(x)), G(x) = integral of dy/s(y) from 1 to x. Where no gradient passes, neither run moves
by a gradient, and M is the identity.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class ClipRule:
    """What an estimator does outside the range.

    Attributes:
      name: for people.
      slope: x = |w| / R >= 1 -> s there, elementwise.
      integral: G(x) = integral of dy/s(y) from 1 to x, elementwise; None where s = 0.
      inverse: the inverse of G.
    """

    name: str
    slope: Callable[[jax.Array], jax.Array]
    integral: Callable[[jax.Array], jax.Array] | None = None
    inverse: Callable[[jax.Array], jax.Array] | None = None

    @property
    def passes(self) -> bool:
        """Whether gradients pass outside the range."""
        return self.integral is not None

    def map(self, weights: jax.Array, R: jax.Array, alpha: float) -> jax.Array:
        """M(w) for weights outside the range; what lies inside is not to be read."""
        if not self.passes:
            return weights
        return jnp.sign(weights) * R * (1 + alpha * self.integral(jnp.maximum(jnp.abs(weights) / R, 1)))

    def unmap(self, weights: jax.Array, R: jax.Array, alpha: float) -> jax.Array:
        """The inverse of `map`."""
        if not self.passes:
            return weights
        return jnp.sign(weights) * R * self.inverse(jnp.maximum(jnp.abs(weights) / R - 1, 0) / alpha)


CLIP = ClipRule('clip', jnp.zeros_like)
PASS = ClipRule('pass', jnp.ones_like, lambda x: x - 1, lambda y: y + 1)
RECIPROCAL = ClipRule('reciprocal', jnp.reciprocal, lambda x: (x**2 - 1) / 2, lambda y: jnp.sqrt(2 * y + 1))

"""Clip rules: the slope of an estimator outside the range [-R, R], an axis of its own beside the slope inside.

Outside, a slope depends on x = |w| / R > 1 alone, and is 0 beyond the rule's reach X. The map M of the theorem follows
from it by the same integral as inside, dM/dw = alpha s_twin / s, with an STE twin that passes gradients outside
(s_twin = 1) as far as M(X R): M(w) = sgn(w) R (1 + alpha G(x)), G(x) = integral of dy/s(y) from 1 to x <= X. Where no
gradient passes, neither run moves by a gradient, and dM/dw = 1.
"""

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp

from qat import calls
from qat.calls import Interval
from qat.quantizers import Quantizer

_LARGEST = jnp.finfo(jnp.float32).max  # of |w| / R, which may overflow


@dataclasses.dataclass(frozen=True)
class ClipRule:
    """What an estimator does outside the range.

    Attributes:
      name: for people.
      within: x = |w| / R in [1, reach] -> s there, elementwise.
      integral: G(x) = integral of dy/s(y) from 1 to x, elementwise.
      inverse: the inverse of G.
      reach: X, in units of R: beyond it s = 0. 1: everywhere outside.
      map_in_words: M(w) within the reach.
    """

    name: str
    within: Callable[[jax.Array], jax.Array]
    integral: Callable[[jax.Array], jax.Array]
    inverse: Callable[[jax.Array], jax.Array]
    reach: float
    map_in_words: str = 'sgn(w) (R + alpha (|w| - R))'

    @property
    def passes(self) -> bool:
        """Whether gradients pass anywhere outside the range."""
        return self.reach > 1

    @property
    def passes_in_words(self) -> str:
        """Of an STE with this rule, what it does outside the range; '' where it passes nothing."""
        if not self.passes:
            return ''
        return ' that passes gradients ' + (
            'outside the range too' if math.isinf(self.reach) else f'up to |w| = {self.reach:.4g} R'
        )

    def slope(self, x: jax.Array) -> jax.Array:
        """s at x = |w| / R >= 1, elementwise."""
        return jnp.where(x <= self.reach, self.within(x), 0) if self.passes else jnp.zeros_like(x)

    def map(self, weights: jax.Array, R: jax.Array, alpha: float) -> jax.Array:
        """M(w) for weights outside the range; what lies inside is not to be read."""
        if not self.passes:
            return weights
        x = jnp.clip(jnp.abs(weights) / R, 1, _LARGEST)
        moving = alpha * self.integral(jnp.minimum(x, self.reach))
        return jnp.sign(weights) * R * (1 + moving + jnp.maximum(x - self.reach, 0))

    def unmap(self, weights: jax.Array, R: jax.Array, alpha: float) -> jax.Array:
        """The inverse of `map`."""
        if not self.passes:
            return weights
        y, end = jnp.clip(jnp.abs(weights) / R - 1, 0, _LARGEST), self._end(alpha) - 1
        x = self.inverse(jnp.minimum(y, end) / alpha) + jnp.maximum(y - end, 0)
        return jnp.sign(weights) * R * x

    def of_twin(self, alpha: float = 1.0) -> 'ClipRule':
        """The rule of STE that passes gradients where this one does: as far as M(X R), or as X R where alpha is 1."""
        if not self.passes:
            return CLIP
        return PASS if math.isinf(self.reach) else trust(self._end(alpha))

    def _end(self, alpha: float) -> float:
        """Where M moves the reach to, in units of R."""
        if math.isinf(self.reach):
            return math.inf
        return 1 + alpha * float(self.integral(self.reach))


def _less_one(x):
    return x - 1


def _plus_one(y):
    return y + 1


def _half_square(x):
    return (x**2 - 1) / 2


def _root(y):
    return jnp.sqrt(2 * y + 1)


def trust(reach: float) -> ClipRule:
    """s = 1 up to |w| = reach R, and 0 beyond (QuEST, arXiv 2502.05003, where it reaches half a step size)."""
    return ClipRule('trust', jnp.ones_like, _less_one, _plus_one, reach)


CLIP = ClipRule('clip', jnp.zeros_like, _less_one, _plus_one, 1.0)
PASS = ClipRule('pass', jnp.ones_like, _less_one, _plus_one, math.inf)
RECIPROCAL = ClipRule('reciprocal', jnp.reciprocal, _half_square, _root, math.inf, 'sgn(w) (R^2 + w^2) / (2R)')
RULES = ('clip', 'pass', 'trust')
_DOMAINS = {'T': Interval(0, 100)}


def parse(text: str, quantizer: Quantizer) -> ClipRule:
    """The rule of a call: 'clip', 'pass', or 'trust(T=0.5)', as far as T outermost step sizes.

    Raises:
      ValueError: there is no such rule, or it does not take the arguments.
    """
    name, given = calls.parse(text)
    made = {'clip': lambda: CLIP, 'pass': lambda: PASS, 'trust': lambda *, T=0.5: trust(_reach(quantizer, T))}
    if name not in made:
        raise ValueError(calls.unknown('clip rule', name, RULES))
    return made[name](**calls.bind(f'clip rule {name!r}', made[name], given, _DOMAINS, leading=0))


def _reach(quantizer: Quantizer, T: float) -> float:
    """|w| / R of T times the outermost gap between values outside the range."""
    return 1 + T * float(quantizer.place(jnp.float32(1), jnp.float32(1)).width)

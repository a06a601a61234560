"""What an STE twin takes at the weights of the estimator instead of its own: w = M^-1(v), pulled back.

STE keeps step with an estimator as v = M(w), dv = (alpha/s) dw, as long as all that an update reads depends on codes
only. What reads the weights is evaluated at w instead (derived; g the gradient with respect to the quantized weights):

  decay   SGD, dw = -eta (s g + lambda w), is dv = -alpha eta (g + lambda w/s(w)): decay pulls on w/s(w) instead of v,
          whether it goes through the momentum or not. Under Adam, where v = w, s g + lambda w = s (g + lambda w/s(w)),
          and s cancels.
  norm    the factor by which the estimator's gradients are clipped follows from the norm of s(w) g.
  weights placement `update`, dw = -eta s(w) u(g, w), is dv = -alpha eta u(g, w): the optimizer reads w itself.

Outside the range, where s = 0 and M' = 1, alpha takes the place of s in the quotient.
"""

import dataclasses

import jax

from qat.estimators import Estimator
from qat.theory.weight_map import WeightMap, positive_slope
from qat.transfer import DECAY, NORM, WEIGHTS


@dataclasses.dataclass(frozen=True)
class PullBack:
    """Of one quantized weight of an STE run.

    Attributes:
      estimator: whose weights STE's are the images of.
      weight_map: its M; None where v = w.
      what: see `qat.transfer.Transfer`.
    """

    estimator: Estimator
    weight_map: WeightMap | None
    what: tuple[str, ...]

    def read(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        """What the optimizer reads in the place of v, shaped like it: v, w or w/s(w)."""
        if WEIGHTS in self.what:
            return self._source(weights, R)
        if DECAY not in self.what:
            return weights
        source = self._source(weights, R)
        return source / positive_slope(self.estimator, source, R)

    def measured(self, gradient: jax.Array, weights: jax.Array, R: jax.Array) -> jax.Array:
        """What counts in the norm that gradients are clipped by, shaped like `gradient`: g or s(w) g."""
        if NORM not in self.what:
            return gradient
        return self.estimator.at(self._source(weights, R), R) * gradient

    def _source(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        return self.weight_map.inverse(weights, R) if self.weight_map else weights

"""The state of a run of one estimator -> the state of the equivalent run of another, in the middle of training.

Let s be an estimator's slope, w its weights and m its optimizer's state, v and n those of STE in the same
place, g the gradient with respect to the quantized weights. Only quantized kernels differ: v has the codes of w, so
that the forward pass, g and everything else are the same bit by bit.

Class `map`, placement `gradient` (SGD): m <- mu m + s(w) g and w <- w - eta m; STE, at alpha times the learning rate,
n <- mu n + g and v <- v - alpha eta n. v = M(w) is to outlast the next update. M' = alpha / s, so to first order in eta
  dv = M'(w) dw = -alpha eta m / s(w),   hence   n = m / s(w).
m was gathered with the slopes of where w was, which differ from s(w) by O(eta): an error of O(eta^2) a step while m
remembers, as large as the theorem's own.
Outside the range s = 0: no gradient comes in, both runs coast on what they have. There M' = 1, and alpha n = m. So
  n = m / sbar(w),   sbar = s where it is positive, otherwise alpha,
and nothing is divided by zero.

Class `identity`: v = w, and averages of powers of s g become averages of powers of g: a first moment is divided by
sbar(w), a second by sbar(w)^2, up to O(kappa), how far w goes within an average's memory. Outside the range the update
is a ratio in which any sbar cancels. What comes after the normalisation (RMSProp's momentum) stays.

Placement `update`: the optimizer sees g itself, and its output does not depend on the weights: its state stays.

From STE back, M^-1 and the products take the place of M and the quotients; between two others, both in a row.

Source: arXiv 2405.05171 for M and alpha; the rule for the optimizer's state is derived here from its proofs.
"""

import jax
import optax

from qat import weights
from qat.estimators import Estimator
from qat.lockstep.state import RunState
from qat.optimizers import Optimizer
from qat.theory.recipe import check_passes_alike, recipe
from qat.theory.weight_map import WeightMap, positive_slope
from qat.transfer import Transfer
from qat.weights import Paths


class Conversion:
    """From runs of `source` to runs of `target`, under one optimizer and placement.

    `transfer`: the optimizer's class there, with all that bears on it; None: what the two alone say.

    Raises:
      NotCovered: one of the two has no recipe, or they pass gradients outside the range to different distances.
    """

    def __init__(
        self,
        source: Estimator,
        target: Estimator,
        optimizer: Optimizer,
        placement: str,
        transfer: Transfer | None = None,
    ):
        transfer = transfer or optimizer.transfer(placement)
        recipes = [recipe(one, transfer) for one in (source, target)]
        check_passes_alike(source, target, transfer)
        self._factors = [one.learning_rate_factor for one in recipes]
        self._estimators = source, target
        moves = any(one.remaps_initialization for one in recipes)
        self._maps = [WeightMap(one) for one in self._estimators] if moves else None
        self._powers = optimizer.moments if placement == 'gradient' else {}

    def __call__(self, run: RunState, ranges: weights.Weights, paths: Paths) -> RunState:
        """The equivalent run; `ranges` as in `State`, `paths` of its quantized weights."""
        before = weights.get(run.params, paths)
        after = {layer: self._moved(weight, ranges[layer]) for layer, weight in before.items()}
        opt_state = run.opt_state
        for field, power in self._powers.items():
            moments = optax.tree_utils.tree_get(opt_state, field)
            if moments is not None:  # as the trace of SGD without momentum
                own = weights.get(moments, paths)
                rescaled = {
                    layer: own[layer] * self._slope_ratio(before[layer], after[layer], ranges[layer]) ** power
                    for layer in paths
                }
                opt_state = optax.tree_utils.tree_set(opt_state, **{field: weights.replace(moments, paths, rescaled)})
        return run.replace(params=weights.replace(run.params, paths, after), opt_state=opt_state)

    def kernel_learning_rate_factor(self, before: float) -> float:
        """The new factor on the learning rate of the quantized weights, from the old one."""
        of_source, of_target = self._factors
        return before * of_source / of_target

    def _moved(self, weight: jax.Array, R: jax.Array) -> jax.Array:
        return self._maps[1].inverse(self._maps[0](weight, R), R) if self._maps else weight

    def _slope_ratio(self, before: jax.Array, after: jax.Array, R: jax.Array) -> jax.Array:
        """sbar of the target over sbar of the source, shaped like the weights."""
        source, target = self._estimators
        return positive_slope(target, after, R) / positive_slope(source, before, R)

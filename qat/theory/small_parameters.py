"""What must be small for the recipes to hold, and what to say where it is not; derived from the proofs of
arXiv 2405.05171.

Class `identity`: a slope cancels in a ratio of averages of gradients only while it hardly changes within what the
averages remember (kappa, times how steep the slope is), and only while eps adds next to nothing to the denominator.
Class `map`: a step follows M only where it is short against the distance over which the slope changes.
"""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from qat.estimators import Estimator
from qat.optimizers import Optimizer
from qat.theory.sampling import breaks, steepness

# Of kappa times the steepness. Up to it STE was measured at most twice as far from the reference as a run with 1% more
# learning rate, above it up to 3 times as far, more than a verdict lets pass (docs/theory.md, tests/test_pages.py).
SLOPE_CHANGE_WARNING = 0.4
KAPPA_WARNING = 0.05  # where no steepness bounds the change, as at a jump: about the same for DSQ at 2 bits
LONGEST_STEP = 0.1  # of a mean step times the steepness of the slope
_EPS_MATTERS = 0.1  # of the denominator without it
_SHARE_WITH_EPS = 0.1  # of the weights that have a gradient


def kappa(optimizer: Optimizer, peak_learning_rate: float, step_size: float) -> float | None:
    """How many step sizes of the quantizer a weight can cross within the longest of the optimizer's memories.

    kappa = peak learning rate / ((1 - beta) D), beta the larger of b1 and b2; RMSprop's momentum makes its steps up to
    1 / (1 - momentum) as long.

    Returns:
      kappa, or None for an optimizer that has no memory in which a slope must cancel.
    """
    if not optimizer.decays:
        return None
    momentum = dict(optimizer.parameters).get('momentum', 0.0)
    return peak_learning_rate / ((1 - momentum) * (1 - max(optimizer.decays)) * step_size)


def unbounded(estimator: Estimator) -> str:
    """Why no steepness says how much a slope can change on a short way, such as 'jumps at r = 0'; '' where one does."""
    if estimator.needs('gradient') or estimator.needs('progress'):
        return 'depends on the gradient' if estimator.needs('gradient') else 'changes with time'
    if found := breaks(estimator):
        how = 'jumps' if found[0].jumps else 'is vertical'
        return f'{how} at r = {round(found[0].r, 4) + 0.0:g}'
    return '' if steepness(estimator) < float('inf') else 'is not positive everywhere'


def slope_change(estimator: Estimator, kappa: float | None) -> float | None:
    """How much the logarithm of a slope can change at most while the optimizer remembers: kappa max |d ln s / dr|.

    It is what must be small for the slope to cancel: a slope of 0.4 may become 0.4 e^x within the memory.

    Args:
      estimator: of the layer.
      kappa: of the layer.

    Returns:
      x: 0 for a constant slope, infinity where nothing bounds it (see `unbounded`), None where there is no kappa.
    """
    if kappa is None:
        return None
    return float('inf') if unbounded(estimator) else kappa * steepness(estimator)


def large_slope_change(estimator: Estimator, kappas: Mapping[str, float | None]) -> str:
    """What to say of kappa by layer; '' where the slope hardly changes within the memory.

    At a jump the slope changes by its factor however short the way is, and kappa bounds the share of weights that cross
    it within the memory: there kappa itself must be small.
    """
    reason = unbounded(estimator)
    steep, most = (1.0, KAPPA_WARNING) if reason else (steepness(estimator), SLOPE_CHANGE_WARNING)
    high = {layer: found for layer, found in kappas.items() if found and found * steep > most}
    if not high:
        return ''
    worst = max(high, key=high.get)
    where = f'in {len(high)} of {len(kappas)} layers'
    change = f'while the optimizer remembers, ln s of {estimator} can change by {high[worst] * steep:.2g}'
    why = f'above {most} {where}, and {estimator} {reason}' if reason else f'{change}, and by more than {most} {where}'
    return (
        f'kappa of {worst} is {high[worst]:.2g}: {why}; the learning rate is too high, or the memory too long, for '
        f'theory to promise that STE acts alike; {_rounded_down(most / (high[worst] * steep))} times the learning rate '
        'would do'
    )


def _rounded_down(share: float) -> str:
    """A number below 1 to two digits, and never above itself."""
    step = 10.0 ** (math.floor(math.log10(share)) - 1)
    return f'{math.floor(share / step) * step:.2g}'


def longer_numerator(optimizer) -> str:
    """What to say where Adam's first moment remembers longer than its second; '' elsewhere."""
    if len(getattr(optimizer, 'decays', ())) < 2 or 'eps' not in dict(optimizer.parameters):
        return ''
    b1, b2 = optimizer.decays
    if b1 <= b2:
        return ''
    return (
        f'b1={b1:g} is above b2={b2:g}: gradients with the slopes of where a weight was are divided by the slopes of '
        'where it is, and do not cancel'
    )


def long_steps(estimator: Estimator, mean_step: float) -> str:
    """What to say of the steps under class `map`; '' where they are short.

    Args:
      estimator: of the layer.
      mean_step: the mean length of a weight's update, in step sizes of the quantizer.
    """
    against_slope = mean_step * steepness(estimator)
    if not against_slope > LONGEST_STEP:
        return ''
    return (
        f'an update moves a weight by {mean_step:.2g} of a quantizer step, {against_slope:.2g} of what the slope of '
        f'{estimator} needs to change by a factor of e, above {LONGEST_STEP:g}: too long to follow M'
    )


def share_with_eps(second_moments: Mapping[str, jax.Array], eps: float) -> float | None:
    """The share of weights whose denominator is more than a tenth eps, of those that have a gradient; None: none has.

    Args:
      second_moments: averages of squared gradients by layer, any shape.
      eps: what is added to their root.
    """
    roots = np.concatenate([np.ravel(jnp.sqrt(moment)) for moment in second_moments.values()])
    alive = roots[roots > 0]
    return float((eps > _EPS_MATTERS * alive).mean()) if alive.size else None


def large_eps(eps: float, share: float | None) -> str:
    """What to say of eps, from `share_with_eps`; '' where it is small."""
    if share is None or share <= _SHARE_WITH_EPS:
        return ''
    return (
        f'eps={eps:g} is more than a tenth of the denominator of {share:.0%} of the weights: it is too large for their '
        'gradients, and the slope does not cancel'
    )

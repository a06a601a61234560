"""Which estimators the theorem covers: its conditions on the slope s, checked by sampling and quadrature.

The conditions (arXiv 2405.05171, section 3): 0 < s < infinity inside the range, s Lipschitz, the same in every cell and
at all times. Derived, where M is needed:
- 1/s must be integrable, or there is neither alpha nor M; where it is although s is 0 somewhere, M exists and is
  increasing, and the recipe stands outside the theorem's words. So it does where s jumps: the integral does not mind.
- The half cells at the ends of the range ask for equal integrals of 1/s on both sides of a threshold.
- float32 must be able to tell the twin's steps from nothing.
Derived, for transfer class 'identity' (Adam, Lion): no M is used, so that it is enough for s to be positive but for
isolated points, and constant in time.
"""

import functools
from collections.abc import Sequence

import numpy as np

from qat.estimators import Estimator
from qat.theory.quadrature import CONVERGED, quadrature
from qat.theory.sampling import GRID, ROUNDING, breaks, extremes, sampled, steepness, zeros

__all__ = [
    'NotCovered',
    'cautions',
    'check_covered',
    'conditions_that_fail',
    'extremes',  # of qat.theory.sampling, as the two below, where the facts of a slope are
    'sampled',
    'steepness',
]
TOLERANCE = 1e-6
# The slopes that float32 can be trained with. A harmonic mean this far below the arithmetic one means that the twin's
# steps are lost in the rounding of the weights where the estimator's are not: float32's machine epsilon.
LEAST_SHARE = 2.0**-23
SMALLEST, LARGEST = 1e-30, 1e30  # of alpha itself: 1 / alpha, and products with gradients, stay within float32
_LISTED = 6


class NotCovered(ValueError):
    """The estimator, or the optimizer with it, has no known recipe; the message says why."""


@functools.lru_cache(maxsize=256)
def conditions_that_fail(estimator: Estimator, transfer_class: str = 'map') -> tuple[str, ...]:
    """Why STE cannot stand in for the estimator: the first condition that fails; empty where none does.

    Args:
      estimator: whose slope.
      transfer_class: of the optimizer: under 'identity' no M is needed; everything else asks for alpha and M.
    """
    if estimator.needs('gradient'):
        return ('its slope depends on the incoming gradient',)
    if estimator.needs('progress'):
        return ('its slope changes with time',)
    without_map = () if transfer_class == 'identity' else (_without_map,)
    for condition in (_not_positive, _zero_on_an_interval, *without_map, _zero_in_float32):
        reasons = condition(estimator)
        if reasons:  # those that come after it would be its consequences
            return reasons
    return ()


def check_covered(estimator: Estimator, transfer_class: str = 'map') -> None:
    """Refuses an estimator that STE cannot stand in for under an optimizer of this transfer class.

    Raises:
      NotCovered: with the condition that fails.
    """
    reasons = conditions_that_fail(estimator, transfer_class)
    if reasons:
        raise NotCovered(f'the theorem does not cover {estimator}: {"; ".join(reasons)}')


@functools.lru_cache(maxsize=64)
def cautions(estimator: Estimator) -> tuple[str, ...]:
    """In what an estimator that is covered lies outside the theorem's words, a sentence each; empty where in nothing.

    The recipe is known there too, but the theorem's proof is for slopes that are bounded below and Lipschitz. Empty
    also for an estimator that is covered under no optimizer.
    """
    if conditions_that_fail(estimator, 'identity'):
        return ()
    said, lowest = [], zeros(estimator)
    if lowest:
        integrable = ', though 1/s is integrable there' if quadrature(estimator).divergence is None else ''
        said.append(f'its slope is 0 at r = {_listed(lowest)}{integrable}: the theorem asks for one bounded below')
    for how, jumps in (('jumps', True), ('is vertical', False)):
        places = [place.r for place in breaks(estimator) if place.jumps == jumps]
        if places:
            said.append(f'its slope {how} at r = {_listed(places)}: the theorem asks for one that is Lipschitz')
    return tuple(said)


def _not_positive(estimator: Estimator) -> tuple[str, ...]:
    s = sampled(estimator, GRID)
    bad = ~np.isfinite(s)
    if not bad.any():
        bad = s < -ROUNDING * np.abs(s).max()
    if bad.any():
        return (f'its slope is {s[bad][0]:.3g} at r = {GRID[bad][0]:.3g}, not positive and finite',)
    return ()


def _zero_on_an_interval(estimator: Estimator, single: bool = False) -> tuple[str, ...]:
    s = sampled(estimator, GRID, single=single)
    zero = np.flatnonzero((s[1:] <= 0) & (s[:-1] <= 0))  # the intervals that lie between two zeros
    if not zero.size:
        return ()
    end = zero[np.append(np.diff(zero) > 1, True)][0] + 1
    return (f'its slope is 0 from r = {GRID[zero[0]]:.3g} to {GRID[end]:.3g}, not positive',)


def _zero_in_float32(estimator: Estimator) -> tuple[str, ...]:
    return tuple(f'in float32 {reason}' for reason in _zero_on_an_interval(estimator, single=True))


def _without_map(estimator: Estimator) -> tuple[str, ...]:
    """Why there is no alpha, or no M, for a slope that is positive but for isolated points."""
    found = quadrature(estimator)
    if found.divergence is not None:
        return (f'1/s is not integrable at r = {_listed([found.divergence])}, so alpha does not exist',)
    lower, upper = -float(found.F[0]), float(found.F[-1])
    alpha = 1 / (lower + upper)
    share = alpha / float(sampled(estimator, GRID).mean())
    if not (share >= LEAST_SHARE and SMALLEST < alpha < LARGEST):
        return (f"its alpha is {alpha:.2g}, {share:.2g} of the slope's mean, out of float32's reach",)
    if not found.error <= CONVERGED:
        return (f'the integral of 1/s does not settle: alpha is {alpha:.4g} to a share of {found.error:.1g} only',)
    if abs(upper - lower) > TOLERANCE * (upper + lower):
        return (
            f'the integral of 1/s is {lower:.4g} below a threshold and {upper:.4g} above it, '
            'so M does not map the half cells at the ends of the range onto themselves',
        )
    return ()


def _listed(places: Sequence[float]) -> str:
    """Offsets for people: to a millionth, 0 without a sign, each once, and no more than a few."""
    written = list(dict.fromkeys(f'{round(place, 6) + 0.0:g}' for place in places))
    return ', '.join(written[:_LISTED]) + (f' and {len(written) - _LISTED} more' if written[_LISTED:] else '')

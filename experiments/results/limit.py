"""In the limit: is the estimator an STE in disguise? What runs at falling learning rates say, in words.

The error of the STE twin is fitted by a power of the learning rate, in units of `jitter`'s, which cannot vanish: the
learning rate is 1% higher at every rung. A power above 0 says that the twin's error falls faster than that of a change
nobody cares about, as the theorem promises (arXiv 2405.05171, theorem 1); the errors themselves are no evidence, for
those of jitter fall too.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from experiments.results.statistics import Estimate, pooled_order
from qat.lockstep.verdict import ITSELF, NONE, ROUNDING, STE_TWINS

YES, NO, UNSETTLED = 'In the limit yes', 'In the limit no', 'In the limit not settled'
NOT_ASKED = 'In the limit: not asked; --config.ladder=3 does.'
_ERROR = 'weight_alignment_error'
_STAYS = 0.2  # an order below it: what the error is divided by, the path, changes a little with the learning rate


def in_the_limit(subject: str, rungs: Mapping[float, Sequence[Mapping | None]], reason: str = '') -> dict:
    """The answer, and the numbers behind it.

    Args:
      subject: estimator and optimizer, as in 'dsq(k=6.5) under sgd'.
      rungs: by learning rate, the contents of summary.json, a seed each and in one order; None for a run that ended
        with numbers that are not finite.
      reason: why there is no recipe; '' where there is one.

    Returns:
      'answer', a sentence; 'order', its 'low' and 'high' end, or None where there is none; 'seeds'; 'learning_rates';
      'errors' by twin, (seeds, learning rates), empty where there is no order.
    """
    rates = sorted(rungs, reverse=True)
    found = {'order': None, 'low': None, 'high': None, 'errors': {}, 'seeds': len(rungs[rates[0]])}
    found['learning_rates'] = rates
    unable = next(filter(None, (_unable(rate, run) for rate in rates for run in rungs[rate])), '')
    if unable:
        return {'answer': f'{UNSETTLED}: {unable}', **found}
    if ITSELF in rungs[rates[0]][0]['verdict']:
        return {'answer': f'{YES}: {subject} {ITSELF}.', **found}
    of_twin = {name: _by_seed(rungs, rates, name) for name in rungs[rates[0]][0]['twins']}
    jitter, closest = of_twin['jitter'], [name for name in STE_TWINS if name in of_twin]
    twin = 'ste' if 'ste' in closest else min(closest, key=lambda name: np.mean(of_twin[name], axis=0)[-1])
    errors = of_twin[twin]
    if twin != 'ste' and not reason:
        return {'answer': f'{UNSETTLED}: a recipe is known for {subject}, and the twin ste was not run.', **found}
    if all(error <= ROUNDING for of_seed in errors for error in of_seed):
        return {'answer': f'{YES}: {twin} is {subject} exactly, at every learning rate.', **found}
    order = pooled_order(rates, errors, jitter)
    if order is None:
        return {'answer': f'{UNSETTLED}: an error of {twin} is 0 at one learning rate and not at another.', **found}
    if not math.isfinite(order.high - order.low):
        return {'answer': f'{UNSETTLED}: one seed at two learning rates has no interval; add seeds.', **found}
    found |= {'order': order.value, 'low': order.low, 'high': order.high, 'errors': {twin: errors, 'jitter': jitter}}
    return {'answer': _answer(subject, twin, found, order, pooled_order(rates, errors)), **found}


def _unable(rate: float, run: Mapping | None) -> str:
    """What makes a rung unable to tell; '' if nothing does."""
    if run is None:
        return f'at learning rate {rate:g} a run ended with numbers that are not finite.'
    _, none, reason = run['verdict'].partition(f'{NONE} on ')
    return f'at learning rate {rate:g}, {reason}' if none else ''


def _by_seed(rungs: Mapping, rates: list[float], twin: str) -> list[list[float]]:
    """(seeds, learning rates) errors of a twin, each at the end of its run or before that is saturated."""
    return [list(of_seed) for of_seed in zip(*([_errors(run)[twin] for run in rungs[rate]] for rate in rates))]


def _errors(run: Mapping) -> dict[str, float | None]:
    """By twin; a run of an older version does not say when it was saturated."""
    at_the_end = {twin: metrics[_ERROR] for twin, metrics in run['twins'].items()}
    return run.get('compared', {}).get('errors', at_the_end)


def reading(in_jitter: Estimate, plain: Estimate) -> str:
    """YES, NO or UNSETTLED, from the power of the learning rate that an error goes as, in units of jitter's and plain.

    Yes needs an error that falls, and faster than jitter's; no one that does not fall, and less than jitter's.
    """
    if in_jitter.low > 0 and plain.low > 0:
        return YES
    return NO if in_jitter.high < 0 and plain.value < _STAYS else UNSETTLED


def _answer(subject: str, twin: str, found: Mapping, in_jitter: Estimate, plain: Estimate) -> str:
    (first, *_, last), ends = found['learning_rates'], _ends(found['errors'][twin], found['errors']['jitter'])
    power = (
        f'in the mean over seeds, the error of {twin} is {ends[0]:.2g} times that of jitter at learning '
        f'rate {first:g} and {ends[1]:.2g} times at {last:g}; this ratio goes as the learning rate to the power '
        f'{in_jitter.value:.2f} [{in_jitter.low:.2f}, {in_jitter.high:.2f}] (95%, n = {in_jitter.n} seeds), '
        f'the error itself as to the power {plain.value:.2f}'
    )
    said = {
        YES: f'{YES}, {subject} is STE in disguise: {power}. It vanishes.',
        NO: f'{NO}, {subject} is not STE in disguise: {power}. It stays.',
        UNSETTLED: f'{UNSETTLED} for {subject}: {power}. More seeds or a longer ladder may tell.',
    }
    return said[reading(in_jitter, plain)]


def _ends(errors: Sequence, jitter: Sequence) -> tuple[float, float]:
    """The geometric means over seeds of the errors, in units of jitter, at the highest and the lowest learning rate."""
    ratios = np.exp(np.log(np.divide(errors, jitter)).mean(axis=0))
    return float(ratios[0]), float(ratios[-1])

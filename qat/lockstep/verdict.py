"""At this setting: is STE interchangeable with the estimator? What one run can say, in words, thresholds included.

The measure is how far the STE twin is from the reference in units of `jitter`, the reference at 1.01 times the learning
rate: a change nobody cares about. The largest ratio counts, over all times at which enough codes have changed. Where a
training is chaotic, as with batch norm, small batches and depth, errors grow until everything is far from everything:
what counts then are the times before that, and the answer says so. What makes a run unable to tell is looked for first,
and named. The twin `reshuffle` says what another order of the data does, where it is run. Whether the estimator is STE
in disguise *in the limit* of small learning rates is another question, which takes runs at several learning rates.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

LIMIT = 2.5  # times jitter: see docs/results/calibration for how often it errs
FEWEST_CHANGES, SMALLEST_SHARE = 100, 1e-3  # of the codes: a share of 100 is known to 10% at best
SATURATED = 0.2  # of the distance from the start: where 1% more learning rate moves the end so far, the runs are chaos
ROUNDING = 1e-5  # an alignment error that float32 alone can make

YES, NO, NONE = 'At this setting yes', 'At this setting no', 'No verdict'
ANSWERS = (YES, NO, NONE)  # every verdict begins with one
ITSELF = 'is STE itself, so there is nothing to compare'
FULL_PRECISION = f'{NONE}: nothing is quantized, so a run in full precision has no estimator to compare with STE.'
BY_RECIPE = ' by the recipe'  # what plain STE is not called
BEWARE = 'Beware: '  # what a caution in an answer begins with

_ERROR, _OF_THE_WAY = 'weight_alignment_error', 'weight_alignment_error_displacement'
STE_TWINS = ('ste', 'naive_ste', 'map_ste')  # the first is the recipe's; without it the closest counts
ON_ACTIVATIONS = 'ste_activations'
_OUTCOMES = ('accuracy', 'loss', 'perplexity')

Metrics = Mapping[str, Mapping[str, float | int | None]]  # by twin and name, see `qat.trajectory.summarize`


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What a run left behind.

    Attributes:
      subject: estimator and optimizer, as in 'dsq(k=6.5) under sgd'.
      over_time: the metrics of the twins, from the first measured to the end's.
      reference: the reference's outcomes at the end, such as accuracy and loss, compared with those of the twins; empty
        where nothing was evaluated.
      untrained_loss: what the reference's 'loss' must have fallen below: the lower of the loss before the first step
        and that of guessing; None where nobody knows.
      first_loss: the loss before the first step; None where nobody knows.
      reason: why there is no recipe, for people; '' where there is one.
      cautions: what makes the claim doubtful in this setting, a sentence each.
      adjusted: whether the twin `ste` has something adjusted, so that it is not plain STE.
      is_ste: whether the estimator is `ste` and no other.
    """

    subject: str
    over_time: Sequence[Metrics]
    reference: Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    untrained_loss: float | None = None
    first_loss: float | None = None
    reason: str = ''
    cautions: Sequence[str] = ()
    adjusted: bool = False
    is_ste: bool = False


def verdict(evidence: Evidence) -> str:
    """Yes, no, or none, with the size of the effect and its limit, or with what makes the run unable to tell."""
    end = evidence.over_time[-1]
    twins = [twin for twin in STE_TWINS if twin in end]
    if evidence.is_ste and not _not_finite(evidence):
        said = [f'{YES}: {evidence.subject} {ITSELF}.', *_on_activations(evidence.over_time)]
        return ' '.join([*said, *_doubts(evidence)])
    unable = _not_finite(evidence) or _untrained(evidence) or _without_twins(end, twins) or _unmoved(end)
    if not unable:
        early = evidence.over_time[: before_saturation(evidence.over_time)]
        if not any(map(_enough_changed, early)):  # all of it counts where the twin is the reference exactly
            early = evidence.over_time
        ratios = {twin: _largest_ratio(early, twin) for twin in twins}
        twin = twins[0] if twins[0] == 'ste' else min(ratios, key=ratios.get)
        unable = _saturated(early[-1]) if ratios[twin] else ''
    if unable:
        return ' '.join([f'{NONE} on {evidence.subject}: {unable}.', *_doubts(evidence)])
    said = [_answer(evidence, twin, ratios[twin]), *_without_the_recipe(evidence, twin, ratios)]
    said += [*_regime(evidence, len(early)), *_outcome(evidence, twin)]
    return ' '.join([*said, *_on_activations(early), *_doubts(evidence)])


def before_saturation(over_time: Sequence[Metrics]) -> int:
    """How many of the first metrics were measured before the runs were too far apart to be told apart."""
    saturated = (index for index, now in enumerate(over_time) if _is_saturated(now))
    return next(saturated, len(over_time))


def _is_saturated(metrics: Metrics) -> bool:
    error = metrics['jitter'][_OF_THE_WAY]
    return error is not None and error > SATURATED


def _regime(evidence: Evidence, compared: int) -> list[str]:
    """What regime the run was in, where it is not the usual one."""
    count = len(evidence.over_time)
    if compared == count:
        return []
    error = evidence.over_time[-1]['jitter'][_OF_THE_WAY]
    return [
        f'The run is chaotic: at its end 1% more learning rate is apart by {error:.0%} of the distance from the start. '
        f'Compared were the first {compared} of {count} evaluations, up to {SATURATED:.0%}.'
    ]


def _answer(evidence: Evidence, twin: str, ratio: float) -> str:
    if ratio == 0:
        return f'{YES}: {twin} is {evidence.subject} exactly, to the rounding of float32.'
    times, ste = _times(ratio), f'STE{BY_RECIPE}' if evidence.adjusted and twin == 'ste' else 'STE'
    found = (
        f'at its worst in this run {twin} was {times} from the reference as 1% more learning rate is (jitter); '
        f'up to {LIMIT:g} counts as the same'
    )
    if ratio <= LIMIT:
        return f'{YES}, {ste} trains like {evidence.subject}: {found}.'
    why = f' No recipe is known: {evidence.reason}.' if evidence.reason else ''
    return f'{NO}, the weights take another path with {ste} than with {evidence.subject}: {found}.{why}'


def _times(ratio: float) -> str:
    return 'as far' if f'{ratio:.2g}' == '1' else f'{ratio:.2g} times as far'


def _without_the_recipe(evidence: Evidence, twin: str, ratios: Mapping[str, float]) -> list[str]:
    """What the recipe buys, where STE with nothing adjusted is run beside it."""
    if not (evidence.adjusted and twin == 'ste' and 'naive_ste' in ratios):
        return []
    return [f'With nothing adjusted (naive_ste) it was {_times(ratios["naive_ste"])}.']


def _outcome(evidence: Evidence, twin: str) -> list[str]:
    """The outcomes of twin and reference side by side, where there are any."""
    of_twin, reference = evidence.over_time[-1][twin], evidence.reference
    pairs = [f'{key} {of_twin[key]:.4f} against {reference[key]:.4f}' for key in _OUTCOMES if key in reference]
    listed = ' and '.join(filter(None, (', '.join(pairs[:-1]), *pairs[-1:])))
    said = [f'{twin} ends with {listed} of the reference.'] if pairs else []
    return said + _yardstick(evidence, twin)


def _on_activations(over_time: Sequence[Metrics]) -> list[str]:
    """How far STE on the activations alone is, where that twin is run beside jitter."""
    if not {ON_ACTIVATIONS, 'jitter'} <= over_time[-1].keys() or not any(map(_enough_changed, over_time)):
        return []
    ratio = _largest_ratio(over_time, ON_ACTIVATIONS)
    return [
        f'With STE on the activations alone ({ON_ACTIVATIONS}) it is {ratio:.2g} times as far as jitter at its worst.'
    ]


def _yardstick(evidence: Evidence, twin: str) -> list[str]:
    """The twin beside what another order of the data does."""
    end, reference = evidence.over_time[-1], evidence.reference
    if not end.get('reshuffle', {}).get(_ERROR) or end[twin][_ERROR] is None:
        return []
    share = end[twin][_ERROR] / end['reshuffle'][_ERROR]
    said = f'At the end it is {share:.2g} times as far from the reference as another order of the data is (reshuffle)'
    if reference.get('accuracy') is None:
        return [f'{said}.']
    differences = (f'{end[name]["accuracy"] - reference["accuracy"]:+.4f}' for name in (twin, 'reshuffle'))
    return [f'{said}; its accuracy differs by {" and that of reshuffle by ".join(differences)}.']


def _doubts(evidence: Evidence) -> list[str]:
    broken = evidence.over_time[-1].get('self', {}).get(_ERROR)
    said = ['the twin self differs, and should be equal bit by bit'] if broken else []
    return [f'{BEWARE}{caution}.' for caution in (*said, *evidence.cautions)]


def _not_finite(evidence: Evidence) -> str:
    reference = [evidence.reference[key] for key in _OUTCOMES if key in evidence.reference]
    if not all(map(_finite, reference)):
        return "the reference's loss or accuracy is not finite"
    for twin, metrics in evidence.over_time[-1].items():
        known = [metrics[key] for key in _OUTCOMES if key in metrics]
        if metrics.get('path_length', 0) != 0:  # where nothing moved there is no error
            known += [metrics[_ERROR], metrics['path_length']]
        if not all(map(_finite, known)):
            return f'the twin {twin} ended with numbers that are not finite'
    return ''


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _untrained(evidence: Evidence) -> str:
    loss, untrained = evidence.reference.get('loss'), evidence.untrained_loss
    if loss is None or untrained is None or loss < untrained:
        return ''
    if evidence.first_loss is not None and loss < evidence.first_loss:  # it fell, and is not even at guessing
        return (
            f'the reference is no better than guessing: its loss fell from {evidence.first_loss:.3g} to {loss:.3g}, '
            f'and guessing has {untrained:.3g}; try more steps'
        )
    return (
        f'the reference did not train, its loss ended at {loss:.3g} and is {untrained:.3g} without training; '
        f'try {"more steps" if loss < 1.01 * untrained else "a smaller learning rate"}'
    )


def _without_twins(end: Metrics, twins: Sequence[str]) -> str:
    missing = [name for name, there in (('jitter', 'jitter' in end), ('ste or naive_ste', twins)) if not there]
    return f'the twin {missing[0]} was not run' if missing else ''


def _enough_changed(metrics: Metrics) -> bool:
    jitter = metrics['jitter']
    return jitter['changed_codes'] >= FEWEST_CHANGES and jitter['changed_fraction'] >= SMALLEST_SHARE


def _unmoved(end: Metrics) -> str:
    if end['jitter'].get('changed_codes') is None:
        return 'an older version of the program did not count the codes that changed'
    if _enough_changed(end):
        return ''
    changed, share = end['jitter']['changed_codes'], end['jitter']['changed_fraction']
    if share and SMALLEST_SHARE * changed / share > FEWEST_CHANGES:
        needed = f'{math.ceil(SMALLEST_SHARE * changed / share)} ({SMALLEST_SHARE:.1%} of all)'
    else:
        needed = f'{FEWEST_CHANGES}'
    return (
        f'next to nothing happened: {changed} codes changed, and {needed} are needed; '
        'try a larger learning rate, or more steps'
    )


def _largest_ratio(over_time: Sequence[Metrics], twin: str) -> float:
    """Of the twin's error to that of jitter, while enough codes had changed; 0 where it is rounding throughout."""
    errors = [(now[twin][_ERROR], now['jitter'][_ERROR]) for now in over_time if _enough_changed(now)]
    errors = [(error, jitter) for error, jitter in errors if error is not None and jitter is not None]
    if all(error <= ROUNDING for error, _ in errors):
        return 0.0
    return max(error / jitter if jitter else math.inf for error, jitter in errors)


def _saturated(end: Metrics) -> str:
    error = end['jitter'][_OF_THE_WAY]
    if not _is_saturated(end):
        return ''
    return (
        f'saturated, 1% more learning rate already ends apart by {error:.0%} of the distance from the start, and '
        f'{SATURATED:.0%} is the most at which runs can be told apart; try a smaller learning rate, or fewer steps'
    )

"""Is the estimator an STE in disguise? One sentence from a run's summary, thresholds included."""

import math
from collections.abc import Mapping

JITTER_MULTIPLE = 4  # an error that many times the yardstick's is a difference
ALWAYS_SMALL = 0.1  # an error nobody would call a difference
RECIPE_MATTERS_BELOW = 0.9  # alpha; above it the recipe changes too little to be told apart
SHARE_OF_NAIVE = 1 / 3

ANSWERS = ('Yes,', 'No,', 'Not shown by this run')  # every verdict begins with one

_ERROR = 'weight_alignment_error'
_CAVEAT = 'One learning rate is evidence; a convergence order over several is proof.'


def verdict(estimator: str, optimizer: str, transfer_class: str, alpha: float | None, twins: Mapping) -> str:
    """Yes, no, or not shown by this run, and why, in one sentence and the caveat.

    Args:
      estimator, optimizer: as the user wrote them.
      transfer_class: 'map', 'identity' or 'none'.
      alpha: None where the theorem does not cover the estimator.
      twins: by name, the metrics of the run's end.
    """
    errors = {name: metrics[_ERROR] for name, metrics in twins.items() if metrics[_ERROR] is not None}
    subject = f'{estimator} under {optimizer}'
    lost = [name for name, error in errors.items() if not math.isfinite(error)]
    if lost:
        return f'Not shown by this run: for {subject} the error of {lost[0]} is not finite. Try a smaller rate.'
    if not errors.get('jitter'):
        return f'Not shown by this run: without the twin jitter, or any movement, there is no yardstick for {subject}.'
    limit = JITTER_MULTIPLE * errors['jitter']
    if transfer_class == 'none' or alpha is None:
        return _without_recipe(subject, errors, limit)
    if 'ste' not in errors:
        return f'Not shown by this run: {subject} has a recipe, but the twin ste was not run.'
    return _with_recipe(subject, errors, max(limit, ALWAYS_SMALL), transfer_class, alpha)


def _without_recipe(subject: str, errors: Mapping, limit: float) -> str:
    candidates = {name: errors[name] for name in ('naive_ste', 'map_ste') if name in errors}
    if not candidates:
        return f'Not shown by this run: no recipe is known for {subject}, and no STE twin was run.'
    closest = min(candidates, key=candidates.get)
    compared = f'{closest}, has alignment error {errors[closest]:.3g}'
    if errors[closest] > limit:
        return (
            f'No, not an STE in disguise: no recipe is known for {subject}, and the closest twin, {compared}, '
            f'above {JITTER_MULTIPLE} x jitter = {limit:.3g}. {_CAVEAT}'
        )
    return (
        f'Not shown by this run: no recipe is known for {subject}, yet the closest twin, {compared}, '
        f'no more than {JITTER_MULTIPLE} x jitter = {limit:.3g}. {_CAVEAT}'
    )


def _with_recipe(subject: str, errors: Mapping, limit: float, transfer_class: str, alpha: float) -> str:
    found = f'the ste twin has alignment error {errors["ste"]:.3g}'
    allowed = f'max({JITTER_MULTIPLE} x jitter, {ALWAYS_SMALL}) = {limit:.3g}'
    if errors['ste'] > limit:
        return f'Not shown by this run: for {subject} {found}, above {allowed}. Try a smaller learning rate. {_CAVEAT}'
    if transfer_class == 'map' and alpha < RECIPE_MATTERS_BELOW:
        if 'naive_ste' not in errors:
            return f'Not shown by this run: for {subject} {found}, but the twin naive_ste was not run. {_CAVEAT}'
        third = SHARE_OF_NAIVE * errors['naive_ste']
        if errors['ste'] > third:
            return (
                f'Not shown by this run: for {subject} {found}, within {allowed}, but above a third of '
                f"naive_ste's, {third:.3g}. Try a smaller learning rate. {_CAVEAT}"
            )
        allowed += f" and a third of naive_ste's = {third:.3g}"
    return f'Yes, {subject} is an STE in disguise: {found}, within {allowed}. {_CAVEAT}'

"""The recipe for an audited fake-quantizer: in words, as a record, and as the command that makes M(w0)."""

import shlex

from experiments.results.explanation import recipe_in_words
from qat.auditing.audits import UNKNOWN, Audit, quantizer_of, written
from qat.estimators import make
from qat.grids import QUANTIZERS
from qat.optimizers import Optimizer
from qat.quantizers import UniformQuantizer
from qat.theory.coverage import NotCovered
from qat.theory.recipe import Recipe, obstacles, recipe
from qat.theory.sampling import steepness
from qat.theory.small_parameters import KAPPA_WARNING, SLOPE_CHANGE_WARNING, kappa, unbounded
from qat.transfer import PLACEMENTS, Transfer


def words(audit: Audit, transfer: Transfer, optimizer: Optimizer | None = None) -> dict[str, str]:
    """Returns the transfer class and the recipe, as sentences by their label.

    Args:
      audit: what was found.
      transfer: of the optimizer.
      optimizer: whose memory the slope must hardly change within; None: nothing is said of that.
    """
    found, where = _recipe(audit, transfer), ''
    if transfer.transfer_class == 'identity' and not found:
        where = ', where the theorem covers it'
        where += '; this one it does not' if _reasons(audit, transfer) else ''
    if found:
        said = recipe_in_words(found, audit.estimator or make('ste', quantizer_of(audit.levels)))
        if transfer.transfer_class == 'identity' and optimizer:
            said += _while_kappa_is_small(audit, optimizer)
    else:
        said = f'none is known: {"; ".join(_why_none(audit, transfer))}'
    return {'Transfer class': f'{transfer.transfer_class}: {transfer.reason}{where}', 'Recipe': said}


def record(audit: Audit, transfer: Transfer | None) -> dict:
    """Returns the same as JSON values; what does not exist is None."""
    found = _recipe(audit, transfer) if transfer else None
    return {
        'transfer_class': transfer.transfer_class if transfer else None,
        'learning_rate_factor': found.learning_rate_factor if found else None,
        'remaps_initialization': found.remaps_initialization if found else None,
        'no_recipe_because': _why_none(audit, transfer) if transfer and not found else None,
    }


def command(audit: Audit, transfer: Transfer, optimizer: str, placement: str) -> str:
    """Returns the command that writes M of weights, '' where no recipe asks for it or the flags cannot say it.

    Args:
      audit: what was found.
      transfer: of the optimizer.
      optimizer: its call.
      placement: of the slope.
    """
    found, made = _recipe(audit, transfer), quantizer_of(audit.levels)
    if not (found and found.remaps_initialization and audit.matches) or audit.matches[0].context:
        return ''
    if isinstance(made, UniformQuantizer):
        grid = f'bits={audit.levels.values.size.bit_length() - 1}'
    elif made.name in QUANTIZERS:
        grid = f'quantizer={made.name}'
    else:
        return ''
    keys = [f'estimator={written(audit.matches[0])}', grid, 'range=max_abs', f'optimizer={optimizer}']
    outside = {'pass': 'pass', 'round_clamp': 'trust(T=0.5)', 'trust': f'trust(T={audit.outside.reach:.3g})'}
    keys += [f'clip_rule={outside[audit.outside.rule]}'] if audit.outside.rule in outside else []
    keys += [f'placement={placement}'] if placement != PLACEMENTS[0] else []
    flags = ['--config=configs/digits.py', *(f'--config.{key}' for key in keys)]
    return f'python -m experiments.convert --weights IN.safetensors --out OUT.safetensors {shlex.join(flags)}'


def _while_kappa_is_small(audit: Audit, optimizer: Optimizer) -> str:
    """How small a learning rate must be for the slope to cancel; '' where that does not matter."""
    per_rate = kappa(optimizer, 1.0, 1.0)
    if per_rate is None or (audit.estimator and steepness(audit.estimator) == 0):
        return ''
    what = f'kappa = peak learning rate / ((1 - b) D) = {per_rate:.4g} times it / D, D the step size of the layer'
    advice = 'experiments.explain says what it is for a setting'
    if audit.estimator is None or unbounded(audit.estimator):
        return f', as long as {what}, is below about {KAPPA_WARNING:g}; {advice}'
    steep = steepness(audit.estimator)
    most = SLOPE_CHANGE_WARNING / (steep * per_rate)
    return (
        f', as long as the slope change, kappa times {steep:.3g} (the largest |d ln s/dr|), is below '
        f'{SLOPE_CHANGE_WARNING:g}: up to a peak learning rate of {most:.2g} D. {what}; {advice}'
    )


def _recipe(audit: Audit, transfer: Transfer) -> Recipe | None:
    cancels = transfer.transfer_class == 'identity'
    if _reasons(audit, transfer) or not audit.has_slope or audit.ends_early or audit.verdict == UNKNOWN:
        return None
    if audit.estimator is None:  # the slope is another in each cell
        return Recipe(1.0, False) if cancels and not transfer.pulled_back else None
    try:
        return recipe(audit.estimator, transfer)
    except NotCovered:
        return None


def _reasons(audit: Audit, transfer: Transfer) -> tuple[str, ...]:
    return audit.identity_reasons if transfer.transfer_class == 'identity' else audit.reasons


def _why_none(audit: Audit, transfer: Transfer) -> list[str]:
    of_theory = obstacles(audit.estimator, transfer) if audit.estimator else []
    lacking = (*audit.doubts, *audit.notes) if audit.ends_early or audit.verdict == UNKNOWN else ()
    said = (*_reasons(audit, transfer), *of_theory, *lacking)
    return list(dict.fromkeys(said)) or ['these samples do not tell M']

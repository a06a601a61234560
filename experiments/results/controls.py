"""The comparisons that a reviewer may ask for of a new estimator: as commands, and as numbers for PyTorch."""

from collections.abc import Mapping, Sequence

from experiments.results.commands import as_config, train_command, twins_to_check
from experiments.results.explanation import pulled_back_in_words, recipe
from experiments.setup.settings import Settings
from qat.theory.recipe import is_ste
from qat.theory.small_parameters import SLOPE_CHANGE_WARNING

_WEIGHTS = 'WEIGHTS.safetensors', 'MAPPED.safetensors'


def owed(settings: Settings, flags: Sequence[str], kappas: Mapping[str, float | None] | None) -> dict[str, str]:
    """Returns lines to copy, by what each controls for; '' for what does not apply.

    Args:
      settings: of the estimator that is proposed.
      flags: of the command, its config among them.
      kappas: by layer, where an optimizer's memory matters.
    """
    found, by_itself = recipe(settings), as_config(settings)
    twins = f'{twins_to_check(settings)},reshuffle'
    lines = {
        'STE, a change of 1% in the learning rate, and another order of the data, beside the estimator': train_command(
            flags, [f'--config.twins={twins}']
        ),
        'Its STE by itself': train_command(flags, by_itself) if by_itself else '',
        'Whether the difference vanishes with the learning rate': train_command(
            flags, [f'--config.twins={twins_to_check(settings)}', '--config.ladder=3']
        ),
        _CALM: _where_kappa_is_small(settings, flags, kappas),
    }
    if found is None:
        return lines | {'STE in PyTorch': f'no recipe is known: {settings.why_no_recipe()}'}
    return lines | _in_pytorch(settings, found, flags)


_CALM = f'Where the slope changes by less than {SLOPE_CHANGE_WARNING:g} while the optimizer remembers'


def _where_kappa_is_small(settings: Settings, flags: Sequence[str], kappas) -> str:
    changes = settings.slope_changes(kappas or {}).values()
    if not changes or None in changes or max(changes) <= SLOPE_CHANGE_WARNING:
        return ''
    config, factor = settings.config, SLOPE_CHANGE_WARNING / max(changes)
    scales = {'learning_rate_scale': config.learning_rate_scale * factor, 'epochs_scale': config.epochs_scale / factor}
    return train_command(flags, ['--config.twins=ste,jitter', *(f'--config.{k}={v:.3g}' for k, v in scales.items())])


def _in_pytorch(settings: Settings, found, flags: Sequence[str]) -> dict[str, str]:
    """The recipe as the parameter group of the quantized weights, and what else it asks for."""
    rate = settings.peak_learning_rate * settings.config.kernel_learning_rate_factor * found.learning_rate_factor
    units = ', of u = w/D' if settings.config.range_policy == 'learned_u' else ''
    is_itself = is_ste(settings.estimator, settings.transfer)
    small = settings.transfer.transfer_class == 'identity' and not is_itself
    sure = f'; sure while the slope changes by less than {SLOPE_CHANGE_WARNING:g}' if small else ''
    group = f"{{'params': quantized, 'lr': {rate:.9g}}}"
    lines = {'STE in PyTorch': f'{group}  # every quantized layer{units}; its peak{sure}'}
    if passing := found.twin(settings.estimator).clip.passes_in_words:
        lines['with an STE'] = passing.strip()
    if is_itself:
        return lines
    if found.remaps_initialization:
        source, target = _WEIGHTS
        given = ' '.join(['python -m experiments.convert', f'--weights={source}', f'--out={target}'])
        begins = 'M(w0) / D' if units else 'M(w0)'
        setting = train_command(flags, []).split(' ', 3)[3]
        lines[f'from {begins}, M(w0) of the weights w0 in a file'] = f'{given} {setting}'
    pulled_back = '; '.join(pulled_back_in_words(found).values())
    return lines | {'and for every quantized weight v': pulled_back}

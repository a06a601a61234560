"""Commands that go on from a setting: the recipe by itself, and what puts the theory to the test."""

import shlex
from collections.abc import Sequence

from experiments.results.explanation import recipe
from experiments.setup.settings import Settings
from qat.lockstep.twins import not_ste


def as_config(settings: Settings) -> list[str]:
    """Returns the flags that turn a run of the estimator into the STE run of its recipe, which is trained by itself.

    None where there is no recipe, or the config keys cannot say it: an STE that passes gradients outside the range as
    far as the estimator does not, or M of weights that begin at another M.
    """
    found, config = recipe(settings), settings.config
    if found is None or (found.remaps_initialization and config.init_map):
        return []
    if settings.estimator.clip != found.twin(settings.estimator).clip:
        return []
    flags = ['--config.estimator=ste', '--config.twins=self', '--config.ladder=1']
    if found.remaps_initialization:
        factor = found.learning_rate_factor * config.kernel_learning_rate_factor
        flags += [f'--config.init_map={config.estimator}', f'--config.kernel_learning_rate_factor={factor:.9g}']
    return flags + ([f'--config.pull_back={config.estimator}'] if found.pulled_back else [])


def train_command(flags: Sequence[str], changes: Sequence[str]) -> str:
    """Returns the command that trains with some flags, in place of which or beside which others are given."""
    changed = {change.partition('=')[0] for change in changes}
    kept = [flag for flag in flags if flag.partition('=')[0] not in changed]
    return f'python -m experiments.train {shlex.join([*kept, *changes])}'


def twins_to_check(settings: Settings) -> str:
    """Returns the value of `twins` for a run that puts the theory to the test."""
    on_activations = ',ste_activations' if not_ste(settings.activations) else ''
    if recipe(settings):
        return f'ste,naive_ste,jitter{on_activations}'
    return f'naive_ste,{"" if settings.alpha() is None else "map_ste,"}jitter{on_activations}'

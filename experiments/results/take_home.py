"""The recipe as programs to copy into another program: M and R in numpy, the rest in JAX with optax and in PyTorch.

They are the three templates *.py.jinja beside the pages' templates; here is what a setting puts into them.
"""

import pathlib

import jax
import jinja2
import numpy as np

from experiments.results import explanation
from experiments.setup.settings import Settings
from qat import calls
from qat.optimizers import FAMILIES
from qat.quantizers import EvenQuantizer
from qat.ranges import BLOCK
from qat.theory.weight_map import WeightMap
from qat.transfer import DECAY

MAP_FILE, SLOPE_FILE = 'weight_map.csv', 'slope.csv'
_OFFSETS = 1001  # rows of a table
_RANGES = {  # of a weight whose last axis is its outputs, see `qat.ranges`
    'he_uniform': '(6 / np.prod(w.shape[:-1])) ** 0.5',
    'max_abs': 'np.abs(w).max()',
    'channel_max_abs': 'np.abs(w).max(axis=tuple(range(w.ndim - 1)), keepdims=True)',
    'mean_abs': 'np.abs(w).mean()',
    'block_max_abs': 'np.repeat(np.abs(w).reshape(*w.shape[:-2], -1, {size}, w.shape[-1]).max(-2), {size}, axis=-2)',
}
_IN_JAX = {  # see `Settings.quantized`
    'conv': "path.split('/')[-1] == 'kernel' and w.ndim >= 3",
    'all': "path.split('/')[-1] == 'kernel'",
}
_IN_TORCH = {
    'conv': '(torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)',
    'all': '(torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)',
}
_OUTSIDE = {  # by clip rule: M(w) outside the range, and there w/s(w) of v, with M in the recipe and without
    'clip': ('w', 'v / {alpha}', 'v / {alpha}'),
    'pass': (
        'np.sign(w) * (R + {alpha} * (np.abs(w) - R))',
        'v.clip(-R, R) + (v - v.clip(-R, R)) / {alpha}',
        'v',
    ),
    'reciprocal': ('np.sign(w) * (R**2 + w**2) / (2 * R)', '2 * v - v.clip(-R, R)', 'v * abs(v) / R'),
}
_PROGRAMS = jinja2.Environment(
    loader=jinja2.FileSystemLoader(pathlib.Path(__file__).with_name('templates')),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def table(settings: Settings) -> dict[str, str]:
    """Returns the table that the programs read, as CSV by the name of its file; empty where there are no programs.

    Its rows are offsets from the threshold over one cell, before and after M, in step sizes, and the slope there where
    weight decay is pulled back. M is left out where it is not in the recipe.
    """
    moves, decays = _parts(settings)
    if not (moves or decays) or lacking(settings):
        return {}
    columns = {'w': np.linspace(-0.5, 0.5, _OFFSETS, dtype=np.float32)}
    if moves:
        columns['M(w)'] = jax.jit(WeightMap(settings.estimator).on_offsets)(columns['w'])
    if decays:
        columns['s(w)'] = jax.jit(settings.estimator)(columns['w'])
    rows = zip(*map(np.asarray, columns.values()))
    lines = [','.join(columns), *(','.join(f'{value:.9g}' for value in row) for row in rows)]
    return {MAP_FILE if moves else SLOPE_FILE: '\n'.join(lines) + '\n'}


def lacking(settings: Settings) -> str:
    """Returns what of a setting the programs cannot say, for people; '' where they say all that the recipe asks for."""
    if not any(_parts(settings)):
        return ''
    unsaid = {
        f'the values of {settings.estimator.quantizer.name}': not isinstance(
            settings.estimator.quantizer, EvenQuantizer
        ),
        f'the clip rule {settings.estimator.clip.name}': settings.estimator.clip.name not in _OUTSIDE,
        f'the range policy {settings.config.range_policy}': settings.config.range_policy != 'fixed',
    }
    return ' and '.join(what for what, is_unsaid in unsaid.items() if is_unsaid)


def start(settings: Settings) -> str:
    """Returns the program of R, M and what weight decay acts on, which reads the file of `table`."""
    moves, _ = _parts(settings)
    alpha = f'{settings.alpha() or 1:.6g}'  # without one as in `positive_slope`
    of_map, with_map, without = (text.format(alpha=alpha) for text in _OUTSIDE[settings.estimator.clip.name])
    return _program(
        'start.py.jinja',
        settings,
        file=MAP_FILE if moves else SLOPE_FILE,
        rule=_range(settings.config.range),
        intervals=settings.estimator.quantizer.intervals,
        alpha=alpha,
        map_outside=of_map,
        outside=with_map if moves else without,
    )


def _range(text: str) -> str:
    name, arguments = calls.parse(text)
    return _RANGES[name].format(**{'size': BLOCK, **arguments})


def in_jax(settings: Settings) -> str:
    """Returns what goes on from `start` in JAX: which weights are quantized is what the config says of this model."""
    return _program('in_jax.py.jinja', settings)


def in_torch(settings: Settings) -> str:
    """Returns the same in PyTorch, by the kind of layer, or by name where the config gives a pattern of names."""
    return _program(
        'in_torch.py.jinja',
        settings,
        layers=_IN_TORCH,
        rate=f'{settings.peak_learning_rate:g}',
        decay=f'{settings.optimizer.weight_decay:g}',
        coupled=FAMILIES[settings.optimizer.name].decay == 'coupled',
    )


def factor(settings: Settings) -> str:
    """Returns what the recipe multiplies the learning rate by, as it is written in the programs."""
    return f'{explanation.recipe(settings).learning_rate_factor:.6g}'


def _parts(settings: Settings) -> tuple[bool, bool]:
    """Whether the recipe has M and alpha, and whether it pulls weight decay back."""
    found = explanation.recipe(settings)
    return (found.remaps_initialization, DECAY in found.pulled_back) if found else (False, False)


def _program(template: str, settings: Settings, **values) -> str:
    moves, decays = _parts(settings)
    quantized = settings.config.quantized
    return _PROGRAMS.get_template(template).render(
        moves=moves,
        decays=decays,
        factor=factor(settings),
        quantized=quantized,
        pattern=repr(quantized),
        conditions=_IN_JAX,
        **values,
    )

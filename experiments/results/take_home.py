"""The recipe as programs to copy into another program: M and R in numpy, the rest in JAX with optax and in PyTorch."""

import jax
import numpy as np

from experiments.results import explanation
from experiments.setup.settings import Settings
from qat.theory.weight_map import WeightMap

MAP_FILE = 'weight_map.csv'
_OFFSETS = 1001  # rows of the table of M


def weight_map(settings: Settings) -> str | None:
    """Returns M over one cell as CSV: offsets from the threshold, before and after, in step sizes; None without M."""
    found = explanation.recipe(settings)
    if found is None or not found.remaps_initialization:
        return None
    offsets = np.linspace(-0.5, 0.5, _OFFSETS, dtype=np.float32)
    mapped = np.asarray(jax.jit(WeightMap(settings.estimator).on_offsets)(offsets))
    return 'w,M(w)\n' + ''.join(f'{before:.9g},{after:.9g}\n' for before, after in zip(offsets, mapped))


def start(settings: Settings) -> str:
    """Returns the program of R and M, which reads the file of `weight_map`."""
    passes = settings.estimator.clip.passes
    outside = 'np.sign(w) * (R**2 + w**2) / (2 * R)' if passes else 'w'
    imports = '' if settings.config.quantized in _IN_JAX else 'import fnmatch\n\n'
    of_range, bits = _RANGES[settings.config.range], settings.estimator.bits
    return _START.format(imports=imports, file=MAP_FILE, bits=bits, outside=outside, rule=of_range)


def in_jax(settings: Settings, factor: str) -> str:
    """Returns what goes on from `start` in JAX: which weights are quantized is what the config says of this model."""
    wanted = settings.config.quantized
    return _JAX.format(factor=factor, condition=_IN_JAX.get(wanted, f'fnmatch.fnmatchcase(path, {wanted!r})'))


def in_torch(settings: Settings, factor: str) -> str:
    """Returns the same in PyTorch, by the kind of layer, or by name where the config gives a pattern of names."""
    wanted = settings.config.quantized
    by_name = f'[w for name, w in model.named_parameters() if fnmatch.fnmatchcase(name, {wanted!r})]  # names of yours'
    layers = f'[layer.weight for layer in model.modules() if isinstance(layer, {_IN_TORCH.get(wanted)})]'
    chosen = layers if wanted in _IN_TORCH else by_name
    return _TORCH.format(factor=factor, rate=f'{settings.peak_learning_rate:g}', chosen=chosen)


_RANGES = {  # of a weight whose last axis is its outputs, see `qat.ranges`
    'he_uniform': '(6 / np.prod(w.shape[:-1])) ** 0.5',
    'max_abs': 'np.abs(w).max()',
    'channel_max_abs': 'np.abs(w).max(axis=tuple(range(w.ndim - 1)), keepdims=True)',
}
_IN_JAX = {  # see `Settings.quantized`
    'conv': "path.split('/')[-1] == 'kernel' and w.ndim >= 3",
    'all': "path.split('/')[-1] == 'kernel'",
}
_IN_TORCH = {
    'conv': '(torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)',
    'all': '(torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d, torch.nn.Linear)',
}
_START = """\
{imports}import numpy as np

offset, mapped = np.loadtxt('{file}', delimiter=',', skiprows=1, unpack=True)


def range_of(w):  # R of a layer, from its initial weights; their last axis is the outputs
    return {rule}


def M(w, R, bits={bits}):
    D = 2 * R / (2**bits - 1)  # the quantizer's step
    cell = np.clip(np.floor((w + R) / D), 0, 2**bits - 2)  # w is nearest to the threshold -R + (cell + 1/2) D
    inside = -R + D * (cell + 0.5 + np.interp((w + R) / D - cell - 0.5, offset, mapped))
    return np.where(np.abs(w) <= R, inside, {outside}).astype(w.dtype)
"""
_JAX = """\
import jax, optax


def quantized(params):  # True for the weights that are quantized
    def is_quantized(keys, w):
        path = jax.tree_util.keystr(keys, simple=True, separator='/')
        return {condition}

    return jax.tree_util.tree_map_with_path(is_quantized, params)


params = jax.tree.map(lambda w, chosen: M(w, range_of(w)) if chosen else w, params, quantized(params))
optimizer = optax.chain(optimizer, optax.masked(optax.scale({factor}), quantized))
"""
_TORCH = """\
import torch

quantized = {chosen}
others = [w for w in model.parameters() if not any(w is chosen for chosen in quantized)]
optimizer = torch.optim.SGD([  # or what you use
    {{'params': quantized, 'lr': {factor} * {rate}}},
    {{'params': others, 'lr': {rate}}},
], momentum=0.9)
with torch.no_grad():
    for w in quantized:
        kernel = np.moveaxis(w.detach().cpu().numpy(), 0, -1)  # the outputs last
        w.copy_(torch.from_numpy(np.moveaxis(M(kernel, range_of(kernel)), -1, 0)))
"""

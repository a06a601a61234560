"""Weights of a ResNet as PyTorch users have them: a .safetensors file, with the names of torchvision or close to them.

Kernels lie as PyTorch has them, (out, in, height, width) and (out, in), and are transposed.
"""

import os
import re
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
from safetensors.numpy import load_file, save_file

from experiments.errors import UserError
from qat import weights

SUFFIX = '.safetensors'
_OF_A_RESNET = '0/conv_stem/kernel'
_NAMES = {  # what is put in the place of what in a path of ours, one after the other
    r'^0/|^1/batch_stats/': '',
    r'conv_stem': 'conv1',
    r'norm_stem': 'bn1',
    r'conv_shortcut': 'downsample.0',
    r'norm_shortcut': 'downsample.1',
    r'stage(\d+)_block(\d+)': lambda found: f'layer{found[1]}.{int(found[2]) - 1}',
    r'norm(\d)': r'bn\1',
    r'classifier': 'fc',
    r'(kernel|scale)$': 'weight',
    r'(mean|var)$': r'running_\1',
    r'/': '.',
}
_SYNONYMS = {r'^module\.': '', r'^linear\.': 'fc.'}  # in files -> torchvision
_HEAD = {'fc.weight', 'fc.bias'}
_IGNORED = '.num_batches_tracked'
_LISTED = 2  # weights of a kind


def read(path: str, like: tuple[dict, dict]) -> tuple[dict, dict]:
    """Returns the parameters and the state of a ResNet in a file, float32.

    Args:
      path: of the file.
      like: parameters and state of the model, arrays or their shapes.

    Raises:
      UserError: it is not such a file, or the weights are not those of this model.
    """
    found = {name: array for name, array in tensors(path, 'init_from').items() if not name.endswith(_IGNORED)}
    paths, (leaves, structure) = weights.all_paths(like), jax.tree.flatten(like)
    if _OF_A_RESNET not in paths:
        raise UserError('init_from: weights of PyTorch are read into a ResNet alone, as in --config.model=resnet20')
    shapes = {_renamed(path, _NAMES): _in_pytorch(leaf.shape) for path, leaf in zip(paths, leaves)}
    names = {name: _renamed(name, _SYNONYMS) for name in found}
    found = {names[name]: array for name, array in found.items()}
    if len(found) < len(names):
        twice = next(name for name in found if list(names.values()).count(name) > 1)
        both = ' and '.join(name for name in names if names[name] == twice)
        raise UserError(f'init_from: {path} has one weight twice, as {both}; leave one out')
    if misfits := _misfits(found, shapes):
        raise UserError(f'init_from: {path} is of another model: {misfits}; {_advice(found, shapes)}')
    return jax.tree.unflatten(structure, [_in_flax(found[name]) for name in shapes])


def tensors(path: str, key: str) -> Mapping[str, np.ndarray]:
    """Returns the arrays of a file by name; errors begin with the key that names it.

    Raises:
      UserError: it is no such file.
    """
    if not path.endswith(SUFFIX):
        raise UserError(
            f'{key}: {path} is no {SUFFIX} file, and a pickle is not read; write one in PyTorch: '
            "safetensors.torch.save_file(model.state_dict(), 'model.safetensors')"
        )
    if not os.path.isfile(path):  # a pipe would be waited for
        raise UserError(f'{key}: there is no file {path}')
    try:
        return load_file(path)
    except (OSError, safetensors.SafetensorError) as error:
        raise UserError(
            f'{key}: cannot read {path}: {error}; it is truncated or no {SUFFIX} file: get it again'
        ) from None
    except AttributeError:  # what safetensors says of a dtype that numpy lacks
        raise UserError(f'{key}: {path} has weights in 8 bits or fewer; save them as float32') from None


def write(path: os.PathLike, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes arrays by name into a file.

    Raises:
      OSError: it cannot be written.
    """
    try:
        save_file(dict(arrays), path)
    except safetensors.SafetensorError as error:  # so it calls what the disk says
        raise OSError(str(error)) from None


def _renamed(name: str, rules: Mapping) -> str:
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def _misfits(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What the file lacks, has too much, or has otherwise, the first few by name; '' where all fits."""
    common = [name for name in shapes if name in found]
    kinds = {
        'missing': [name for name in shapes if name not in found],
        'unknown': [name for name in found if name not in shapes],
        'of another shape': [
            f'{name} {found[name].shape} in place of {shapes[name]}'
            for name in common
            if found[name].shape != shapes[name]
        ],
        'no floats': [name for name in common if not jnp.issubdtype(found[name].dtype, jnp.floating)],
    }
    listed = {kind: ', '.join(names[:_LISTED]) + ', ...' * (len(names) > _LISTED) for kind, names in kinds.items()}
    return '; '.join(f'{len(names)} {kind} ({listed[kind]})' for kind, names in kinds.items() if names)


def _advice(found: Mapping[str, np.ndarray], shapes: Mapping[str, tuple[int, ...]]) -> str:
    others = {name for name in {**shapes, **found} if np.shape(found.get(name)) != shapes.get(name)}
    if others <= _HEAD <= found.keys():
        return f'give the model as many classes, as in resnet20(classes={len(found["fc.bias"])})'
    return 'set --config.model to its model'


def _in_pytorch(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape there of a kernel (height, width, in, out) or (in, out), or of a vector."""
    return (*reversed(shape[-2:]), *shape[:-2])


def _in_flax(array: np.ndarray) -> np.ndarray:
    """(out, in, height, width) -> (height, width, in, out), (out, in) -> (in, out); a vector as it is."""
    return np.transpose(array, (2, 3, 1, 0) if array.ndim == 4 else None).astype(np.float32)

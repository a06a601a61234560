"""Which leaves of a parameter tree are quantized: an explicit mapping from a layer's name to the path of its weight.

A path is the keys of a leaf joined by '/', such as 'Dense_0/kernel'; in the box of a leaf (a `Variable` of Flax NNX, a
`Partitioned` of linen) the key `value` is left out. A layer is called by its weight's path without the
last key ('Dense_0'), or by the whole path where that would give two weights one name.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

Paths = dict[str, str]  # by layer
Weights = dict[str, jax.Array]  # by layer
STEP_SIZES = 'step_sizes'  # the key of trained step sizes, which are no weights, in the parameters of a run


def all_paths(params) -> list[str]:
    """The path of every leaf of a tree."""
    return [_path(keys) for keys, _ in jax.tree_util.tree_leaves_with_path(params)]


def matrices(params):
    """Whether each leaf is a weight of two axes or more: a tree of bools. Step sizes, of a channel each, are none."""
    leaves, structure = jax.tree.flatten(params)
    beside = f'{STEP_SIZES}/'
    return structure.unflatten(
        leaf.ndim >= 2 and not path.startswith(beside) for path, leaf in zip(all_paths(params), leaves)
    )


def check_floats(params) -> None:
    """Refuses leaves of which there is no gradient.

    Raises:
      ValueError: with the path of one.
    """
    for keys, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(leaf, 'dtype', None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.inexact):
            what = type(leaf).__name__ if dtype is None else dtype
            raise ValueError(
                f'parameters must be arrays of floats, {_path(keys)!r} is {what}: keep it in the batch or, with '
                'has_state, in the model state'
            )


def select(params, quantized: Callable[[str], bool] | None) -> Paths:
    """The paths that are quantized, by layer.

    Args:
      params: a tree of arrays or of their shapes.
      quantized: path -> whether its leaf is quantized; None: none is.

    Raises:
      ValueError: no path is, or a leaf that is not float32.
    """
    if quantized is None:
        return {}
    dtypes = {_path(keys): leaf.dtype for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    chosen = [path for path in dtypes if quantized(path)]
    if not chosen:
        raise ValueError(f'no weight matches `quantized`; the weights are {_listed(dtypes)}')
    for path in chosen:
        if dtypes[path] != jnp.float32:
            raise ValueError(f'quantized weights must be float32, {path!r} is {dtypes[path]}')
    short = [path.rpartition('/')[0] for path in chosen]
    names = short if all(short) and len(set(short)) == len(short) else chosen
    return dict(zip(names, chosen))


def get(params, paths: Mapping[str, str]) -> Weights:
    """The quantized weights of a tree, or of any tree of the same structure, by layer."""
    leaves = {_path(keys): leaf for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    return {layer: leaves[path] for layer, path in paths.items()}


def replace(params, paths: Mapping[str, str], weights: Mapping[str, jax.Array]):
    """The tree with these weights, by layer, in the place of its own."""
    new = {paths[layer]: weight for layer, weight in weights.items()}
    return jax.tree_util.tree_map_with_path(lambda keys, leaf: new.get(_path(keys), leaf), params)


def _path(keys) -> str:
    if len(keys) > 1 and keys[-1] == jax.tree_util.GetAttrKey('value'):
        keys = keys[:-1]  # no other leaf has this path: what is a box here is no leaf
    return jax.tree_util.keystr(keys, simple=True, separator='/')


def _listed(paths) -> str:
    shown = list(paths)[:8]
    return ', '.join(shown) + (f' and {len(paths) - len(shown)} more' if len(paths) > len(shown) else '')

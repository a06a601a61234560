"""Devices that share a batch: the mean of what each found on its part."""

import jax
import jax.numpy as jnp


def mean_over_devices(tree, axis_name: str | None):
    """The mean of the floats of a tree over the devices of an axis; what is no float is the same on all.

    Args:
      tree: of arrays.
      axis_name: of `jax.pmap`; None: one device. XLA's CPU backend would copy even what a single one has by itself.

    Raises:
      ValueError: there is no such axis here.
    """
    if axis_name is None or _devices(axis_name) == 1:
        return tree

    def mean(leaf):
        return jax.lax.pmean(leaf, axis_name) if jnp.issubdtype(leaf.dtype, jnp.floating) else leaf

    return jax.tree.map(mean, tree)


def _devices(axis_name: str) -> int:
    try:
        return jax.lax.axis_size(axis_name)
    except NameError:
        raise ValueError(
            f'axis_name={axis_name!r}: run the step under jax.pmap(..., axis_name={axis_name!r}), '
            'or leave axis_name out'
        ) from None

"""Batch norm as the ResNets have it: the constants of He et al. 2015 in PyTorch and in Goyal et al. 2017."""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax.numpy as jnp


def batch_norm(*, train: bool, dtype: jnp.dtype, axis_name: str | None) -> Callable[..., nn.BatchNorm]:
    """A constructor of batch norms, which still takes a name and whatever else a layer wants.

    Args:
      train: whether the statistics are those of the batch, which then move the running ones by a tenth.
      dtype: of the computation; parameters and statistics are float32.
      axis_name: of the devices over which the statistics are averaged; None: each its own.
    """
    return functools.partial(
        nn.BatchNorm, use_running_average=not train, momentum=0.9, epsilon=1e-5, dtype=dtype, axis_name=axis_name
    )

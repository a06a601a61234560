"""The small ConvNet of arXiv 2405.05171, section 5: handwritten digits in, ten logits out."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp


class ConvNet(nn.Module):
    """conv 3x3x32, conv 3x3x64, each with ReLU and 2x2 average pooling; dense 256; dense 10.

    Attributes:
      conv: constructor of the convolutions, `nn.Conv` or another of its signature.
      classes: number of logits.
      dtype: of the computation; parameters and logits are float32.
    """

    conv: Callable[..., nn.Module]
    classes: int = 10
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        """images (batch, height, width, channels) float -> logits (batch, classes)."""
        x = images.astype(self.dtype)
        for name, features in (('conv1', 32), ('conv2', 64)):
            x = nn.relu(self.conv(features, (3, 3), padding='SAME', dtype=self.dtype, name=name)(x))
            x = nn.avg_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        x = nn.relu(nn.Dense(256, dtype=self.dtype)(x))
        return nn.Dense(self.classes, dtype=self.dtype)(x).astype(jnp.float32)

"""The small ConvNet of arXiv 2405.05171, section 5: handwritten digits in, ten logits out."""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

SMALLEST_SIDE = 4  # of an image, in pixels


class ConvNet(nn.Module):
    """conv 3x3x32, conv 3x3x64, each with ReLU and 2x2 average pooling; dense 256; dense 10.

    Attributes:
      conv, dense: constructors of the layers: `nn.Conv` and `nn.Dense`, or others of their signatures.
      avg_pool: `nn.avg_pool`, or another of its signature.
      classes: number of logits.
      dtype: of the computation; parameters and logits are float32.
    """

    conv: Callable[..., nn.Module] = nn.Conv
    dense: Callable[..., nn.Module] = nn.Dense
    avg_pool: Callable[..., jax.Array] = nn.avg_pool
    classes: int = 10
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        """images (batch, height, width, channels) float -> logits (batch, classes)."""
        if min(images.shape[1:3]) < SMALLEST_SIDE:
            raise ValueError(f'it pools twice, so images need {SMALLEST_SIDE}x{SMALLEST_SIDE} pixels or more')
        x = images.astype(self.dtype)
        for name, features in (('conv1', 32), ('conv2', 64)):
            x = nn.relu(self.conv(features, (3, 3), padding='SAME', dtype=self.dtype, name=name)(x))
            x = self.avg_pool(x, (2, 2), strides=(2, 2))
        x = x.reshape(len(x), -1)
        x = nn.relu(self.dense(256, dtype=self.dtype, name='Dense_0')(x))
        return self.dense(self.classes, dtype=self.dtype, name='Dense_1')(x).astype(jnp.float32)

"""The ResNets for images of 32x32 pixels (He et al. 2015, arXiv 1512.03385, section 4.2): ResNet-20 to ResNet-110.

Shortcuts have no weights (option A). ResNet-20 has 269,722 parameters at 10 classes, ResNet-56 853,018.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from qat.models.normalization import batch_norm

CHANNELS = (16, 32, 64)  # of each stage


class BasicBlock(nn.Module):
    """Two 3x3 convolutions, the first with the stride, around a residual connection.

    Attributes:
      features: of both.
      stride: 1 or 2.
      conv, norm: constructors.
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height / stride, width / stride, features), rounded up."""
        # Explicit padding: SAME pads a stride-2 convolution of an even size on one side only.
        conv = functools.partial(self.conv, self.features, (3, 3), padding=((1, 1), (1, 1)))
        y = nn.relu(self.norm(name='norm1')(conv(strides=(self.stride, self.stride), name='conv1')(x)))
        y = self.norm(name='norm2')(conv(name='conv2')(y))
        return nn.relu(shortcut(x, self.features, self.stride) + y)


def shortcut(x: jax.Array, features: int, stride: int) -> jax.Array:
    """Option A: every `stride`-th pixel, with half of the missing channels added as zeros on each side.

    (batch, height, width, channels) -> (batch, height / stride, width / stride, features). The paper does not say where
    the zeros go; on each side is where the implementations in PyTorch have them, and so their published weights.
    """
    missing = features - x.shape[-1]
    return jnp.pad(x[:, ::stride, ::stride], ((0, 0), (0, 0), (0, 0), (missing // 2, missing - missing // 2)))


class CifarResNet(nn.Module):
    """The network.

    Attributes:
      depth: layers with weights, 6 n + 2 for n blocks a stage: 20, 32, 44, 56, 110.
      conv, dense: constructors of the layers: `nn.Conv` and `nn.Dense`, or others of their signatures.
      classes: number of logits.
      dtype: of the computation; parameters, batch statistics and logits are float32.
      axis_name: of the devices over which batch statistics are averaged; None: each its own.
      frozen_statistics: whether batch norm uses its running statistics in training too, as they were at the start.

    Raises:
      ValueError: another depth.
    """

    depth: int = 20
    conv: Callable[..., nn.Module] = nn.Conv
    dense: Callable[..., nn.Module] = nn.Dense
    classes: int = 10
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    frozen_statistics: bool = False

    def __post_init__(self):
        if self.depth < 8 or self.depth % 6 != 2:
            raise ValueError(f'depth must be 6 n + 2, such as 20, 32, 44, 56 or 110, it is {self.depth}')
        super().__post_init__()

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        """images (batch, height, width, channels) float -> logits (batch, classes) float32."""
        conv = functools.partial(self.conv, use_bias=False, dtype=self.dtype)
        norm = batch_norm(train=train and not self.frozen_statistics, dtype=self.dtype, axis_name=self.axis_name)
        x = conv(CHANNELS[0], (3, 3), padding=((1, 1), (1, 1)), name='conv_stem')(images.astype(self.dtype))
        x = nn.relu(norm(name='norm_stem')(x))
        for stage, features in enumerate(CHANNELS):
            for block in range((self.depth - 2) // 6):
                stride = 2 if stage > 0 and block == 0 else 1
                x = BasicBlock(features, stride, conv, norm, name=f'stage{stage + 1}_block{block + 1}')(x)
        x = jnp.mean(x, axis=(1, 2))
        return self.dense(self.classes, dtype=self.dtype, name='classifier')(x).astype(jnp.float32)

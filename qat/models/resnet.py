"""ResNet-50 v1.5 (He et al. 2015, arXiv 1512.03385; stride 2 in the 3x3 convolutions, as in Goyal et al. 2017).

The model of the large experiment of arXiv 2405.05171: every convolution is built by the injected
constructor, the final dense layer and batch norm are plain. 25,557,032 parameters at 1,000 classes.
"""

import functools
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from qat.models.normalization import batch_norm

STAGES = (3, 4, 6, 3)  # bottleneck blocks of each


class Bottleneck(nn.Module):
    """1x1, 3x3 (with the stride) and 1x1 convolutions around a residual connection.

    Attributes:
      features: of the first two convolutions; the block has four times as many.
      stride: 1 or 2.
      conv, norm: constructors.
    """

    features: int
    stride: int
    conv: Callable[..., nn.Module]
    norm: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(batch, height, width, channels) -> (batch, height / stride, width / stride, 4 features)."""
        strides = (self.stride, self.stride)
        y = nn.relu(self.norm(name='norm1')(self.conv(self.features, (1, 1), name='conv1')(x)))
        # Explicit padding: SAME pads a stride-2 convolution of an even size on one side only.
        y = self.conv(self.features, (3, 3), strides, padding=((1, 1), (1, 1)), name='conv2')(y)
        y = nn.relu(self.norm(name='norm2')(y))
        y = self.conv(4 * self.features, (1, 1), name='conv3')(y)
        y = self.norm(name='norm3', scale_init=nn.initializers.zeros_init())(y)  # a block starts as the identity
        if x.shape != y.shape:
            x = self.norm(name='norm_shortcut')(self.conv(4 * self.features, (1, 1), strides, name='conv_shortcut')(x))
        return nn.relu(x + y)


class ResNet50(nn.Module):
    """The network.

    Attributes:
      conv, dense: constructors of the layers: `nn.Conv` and `nn.Dense`, or others of their signatures.
      classes: number of logits.
      dtype: of the computation; parameters, batch statistics and logits are float32.
      axis_name: of the devices over which batch statistics are averaged; None: each its own.
      stages: bottleneck blocks of each stage; fewer make a small network of the same kind.
      small_images: whether the stem is a 3x3 convolution that keeps the size, as is usual for 32x32 pixels, in place of
        a 7x7 one and a max pool, which each halve it.
    """

    conv: Callable[..., nn.Module] = nn.Conv
    dense: Callable[..., nn.Module] = nn.Dense
    classes: int = 1000
    dtype: jnp.dtype = jnp.float32
    axis_name: str | None = None
    stages: tuple[int, ...] = STAGES
    small_images: bool = False

    @nn.compact
    def __call__(self, images: jax.Array, train: bool = True) -> jax.Array:
        """images (batch, height, width, channels) float -> logits (batch, classes) float32."""
        conv = functools.partial(self.conv, use_bias=False, dtype=self.dtype)
        norm = batch_norm(train=train, dtype=self.dtype, axis_name=self.axis_name)
        size, stride, pad = (3, 1, 1) if self.small_images else (7, 2, 3)
        stem = conv(64, (size, size), (stride, stride), padding=((pad, pad), (pad, pad)), name='conv_stem')
        x = nn.relu(norm(name='norm_stem')(stem(images.astype(self.dtype))))
        if not self.small_images:
            x = nn.max_pool(x, (3, 3), strides=(2, 2), padding=((1, 1), (1, 1)))
        for stage, blocks in enumerate(self.stages):
            for block in range(blocks):
                stride = 2 if stage > 0 and block == 0 else 1
                x = Bottleneck(64 * 2**stage, stride, conv, norm, name=f'stage{stage + 1}_block{block + 1}')(x)
        x = jnp.mean(x, axis=(1, 2))
        return self.dense(self.classes, dtype=self.dtype, name='classifier')(x).astype(jnp.float32)

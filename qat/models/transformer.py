"""A small decoder-only transformer: tokens in, the logits of every next token out.

Radford et al. 2019 (GPT-2) in size, start and positions, which are learned; blocks are pre-norm with RMSNorm (Zhang and
Sennrich 2019, arXiv 1910.07467), and no layer has a bias. The kernels of its blocks are `block1/attention/query/kernel`
(`key`, `value`, `out`) and `block1/mlp/up/kernel` (`down`); before and behind them are `embedding` and `head`.
"""

import functools
import math
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

DEVIATION = 0.02  # of the initial weights


class Attention(nn.Module):
    """Causal attention with several heads.

    Attributes:
      heads: which share the width.
      dense: constructor of the projections.
      out: constructor of the last one.
      dropout: share of the attention weights that are dropped in training.
    """

    heads: int
    dense: Callable[..., nn.Module]
    out: Callable[..., nn.Module]
    dropout: float

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(batch, length, width) -> the same shape; a position reads itself and those before it."""
        batch, length, width = x.shape
        of_heads = batch, length, self.heads, width // self.heads
        query, key, value = (self.dense(width, name=name)(x).reshape(of_heads) for name in ('query', 'key', 'value'))
        drops = train and self.dropout > 0
        mixed = nn.dot_product_attention(
            *(query, key, value),
            mask=nn.make_causal_mask(x[..., 0], dtype=bool),
            dropout_rate=self.dropout,
            dropout_rng=self.make_rng('dropout') if drops else None,
            deterministic=not drops,
            broadcast_dropout=False,
            dtype=x.dtype,
        )
        return self.out(width, name='out')(mixed.reshape(x.shape))


class MLP(nn.Module):
    """Two layers, the hidden one four times as wide.

    Attributes:
      dense, out: constructors of the first and of the last layer.
    """

    dense: Callable[..., nn.Module]
    out: Callable[..., nn.Module]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """(..., width) -> the same shape."""
        width = x.shape[-1]
        return self.out(width, name='down')(nn.gelu(self.dense(4 * width, name='up')(x)))


class Block(nn.Module):
    """Attention and an MLP, each around a residual connection and behind a norm.

    Attributes:
      heads, dropout: see `Attention`; what goes into the residual connection is dropped at the same rate.
      dense, out: constructors of the layers, and of those whose output goes into a residual connection.
      dtype: of the norms.
    """

    heads: int
    dense: Callable[..., nn.Module]
    out: Callable[..., nn.Module]
    dropout: float
    dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """(batch, length, width) -> the same shape."""
        drop = nn.Dropout(self.dropout, deterministic=not train)
        attention = Attention(self.heads, self.dense, self.out, self.dropout, name='attention')
        x = x + drop(attention(nn.RMSNorm(dtype=self.dtype, name='norm_attention')(x), train))
        return x + drop(MLP(self.dense, self.out, name='mlp')(nn.RMSNorm(dtype=self.dtype, name='norm_mlp')(x)))


class Transformer(nn.Module):
    """The network.

    Attributes:
      layers: blocks.
      width: of the residual stream.
      heads: of every attention; they divide the width.
      dropout: rate, from 0 to below 1; a training step then needs random numbers of the name 'dropout'.
      dense: constructor of the layers: `nn.Dense`, or another of its signature.
      classes: number of different tokens, and of logits.
      context: the most tokens that it reads at once.
      dtype: of the computation; parameters and logits are float32.

    Raises:
      ValueError: heads that do not divide the width, or another dropout.
    """

    layers: int = 4
    width: int = 128
    heads: int = 4
    dropout: float = 0.0
    dense: Callable[..., nn.Module] = nn.Dense
    classes: int = 256
    context: int = 64
    dtype: jnp.dtype = jnp.float32

    def __post_init__(self):
        if min(self.layers, self.width, self.heads) < 1 or self.width % self.heads:
            raise ValueError(f'width={self.width} must be a multiple of heads={self.heads}, and layers at least 1')
        if not 0 <= self.dropout < 1:
            raise ValueError(f'dropout must be in [0, 1), it is {self.dropout}')
        super().__post_init__()

    @nn.compact
    def __call__(self, tokens: jax.Array, train: bool = True) -> jax.Array:
        """tokens (batch, length) int32, length at most `context` -> logits (batch, length, classes) float32."""
        if tokens.ndim != 2 or not jnp.issubdtype(tokens.dtype, jnp.integer) or tokens.shape[1] > self.context:
            raise ValueError(f'it reads tokens, (batch, at most {self.context}) integers')
        start = nn.initializers.normal(DEVIATION)
        # So that the residual stream is as large at the end as where it begins (GPT-2).
        smaller = nn.initializers.normal(DEVIATION / math.sqrt(2 * self.layers))
        dense = functools.partial(self.dense, use_bias=False, dtype=self.dtype)
        layer, out = functools.partial(dense, kernel_init=start), functools.partial(dense, kernel_init=smaller)
        positions = self.param('position', start, (self.context, self.width))[: tokens.shape[1]]
        x = nn.Embed(self.classes, self.width, dtype=self.dtype, embedding_init=start, name='embedding')(tokens)
        x = nn.Dropout(self.dropout, deterministic=not train)(x + positions.astype(self.dtype))
        for number in range(self.layers):
            x = Block(self.heads, layer, out, self.dropout, self.dtype, name=f'block{number + 1}')(x, train)
        x = nn.RMSNorm(dtype=self.dtype, name='norm')(x)
        return layer(self.classes, name='head')(x).astype(jnp.float32)

"""Quantizers whose values are given one by one: FP4's, or rounding with moved thresholds; and all of them by name."""

import dataclasses
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np

from qat import calls
from qat.quantizers import MAX_BITS, MidTreadQuantizer, Place, Quantizer, TernaryQuantizer, UniformQuantizer


@dataclasses.dataclass(frozen=True)
class GridQuantizer(Quantizer):
    """Rounds to any increasing values.

    Attributes:
      name: for people.
      levels: the values where R = 1, increasing from -1 to 1.
      thresholds: between them, increasing, where R = 1; () puts each halfway.

    Raises:
      ValueError: fewer than two levels or more than 256, levels that do not increase from -1 to 1, or thresholds that
        do not lie between them.
    """

    name: str
    levels: tuple[float, ...]
    thresholds: tuple[float, ...] = ()

    def __post_init__(self):
        levels = np.asarray(self.levels, np.float32)
        if not (2 <= levels.size <= 256 and levels[0] == -1 and levels[-1] == 1 and (np.diff(levels) > 0).all()):
            raise ValueError(f'levels must be 2 to 256 numbers that increase from -1 to 1, got {self.levels}')
        if not self.thresholds:
            middles = tuple((low + high) / 2 for low, high in itertools.pairwise(self.levels))
            object.__setattr__(self, 'thresholds', middles)
        between = zip(self.levels, self.thresholds, self.levels[1:], strict=False)
        if len(self.thresholds) != self.intervals or not all(low < middle < high for low, middle, high in between):
            raise ValueError(f'thresholds must lie between the levels, one each, got {self.thresholds}')

    @property
    def intervals(self) -> int:
        return len(self.levels) - 1

    @property
    def bits(self) -> float:
        return math.log2(len(self.levels))

    def step_size(self, R: jax.Array) -> jax.Array:
        return float(np.diff(self.levels).min()) * R

    def codes(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        # Ties go away from what has an odd place, counted from the middle: the even mantissa of a number format.
        codes = jnp.zeros(jnp.broadcast_shapes(jnp.shape(weights), jnp.shape(R)), jnp.int32)
        for code, threshold in enumerate(self.thresholds):
            above = jnp.greater if (code - self.intervals // 2) % 2 == 0 else jnp.greater_equal
            codes += above(weights, np.float32(threshold) * R)
        return codes

    def values(self, codes: jax.Array, R: jax.Array) -> jax.Array:
        return jnp.asarray(self.levels, jnp.float32)[codes] * R

    def place(self, weights: jax.Array, R: jax.Array) -> Place:
        clipped = jnp.clip(weights, -R, R)
        gap = sum((clipped >= np.float32(level) * R).astype(jnp.int32) for level in self.levels[1:-1])
        gap = jnp.broadcast_to(jnp.asarray(gap), jnp.shape(clipped))
        threshold = jnp.asarray(self.thresholds, jnp.float32)[gap] * R
        width = jnp.asarray(np.diff(self.levels), jnp.float32)[gap] * R
        return Place(threshold, jnp.clip((clipped - threshold) / width, -0.5, 0.5), width)


_E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)  # OCP Microscaling Formats, version 1.0, section 5.3.3
E2M1 = GridQuantizer('e2m1', tuple(value / 6 for value in (*(-v for v in _E2M1[:0:-1]), *_E2M1)))
_INTEGERS = tuple(MidTreadQuantizer(bits) for bits in range(2, MAX_BITS + 1))  # int2 to int8
QUANTIZERS = {made.name: made for made in (TernaryQuantizer(), E2M1, *_INTEGERS)}  # beside the uniform ones


def quantizer(given: int | str | Quantizer) -> Quantizer:
    """The quantizer of so many bits, of a name of `QUANTIZERS`, or itself.

    Raises:
      ValueError: there is none.
    """
    if isinstance(given, Quantizer):
        return given
    if not isinstance(given, str):
        return UniformQuantizer(given)
    if given not in QUANTIZERS:
        raise ValueError(calls.unknown('quantizer', given, [*QUANTIZERS, f'a number of bits in 1..{MAX_BITS}']))
    return QUANTIZERS[given]

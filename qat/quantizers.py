"""Quantizers: integer codes, the values they stand for, and the thresholds between them.

Source: arXiv 2405.05171, section 2; where values are not evenly spaced, or no power of two, derived. All arithmetic is
float32, also under bfloat16 compute, and codes are compared as integers, never as floats.
"""

import abc
import dataclasses
import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

MAX_BITS = 8


class Place(NamedTuple):
    """Where weights lie among the thresholds; every field is shaped like the weights.

    Attributes:
      threshold: T, the threshold in the gap between the two values around the weight, in the weights' unit.
      offset: r = (w - T) / width, clipped to [-1/2, 1/2] and positive above the threshold. A weight outside the range
        is clipped to it.
      width: of the gap, from value to value: D where values are evenly spaced. It broadcasts against the weights.
    """

    threshold: jax.Array
    offset: jax.Array
    width: jax.Array


class Quantizer(abc.ABC):
    """What rounds weights to values on [-R, R]; frozen and hashable.

    R is always an array that broadcasts against the weights: a scalar for a layer, `(1, ..., 1, channels)` for its
    output channels, or one value a weight. Weights, R, step sizes and values share one unit.

    Attributes:
      name: for people.
      intervals: the number of gaps between neighbouring values, and of rounding thresholds; codes are 0..intervals.
      bits: log2 of the number of codes: an integer, or 1.58 of a ternary quantizer.
    """

    name: str
    intervals: int
    bits: float

    @abc.abstractmethod
    def step_size(self, R: jax.Array) -> jax.Array:
        """The least distance D between two neighbouring values, shaped like `R`."""

    @abc.abstractmethod
    def codes(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        """Integer codes in `0..intervals`, int32, shaped like `weights`; they do not fall where weights grow."""

    @abc.abstractmethod
    def values(self, codes: jax.Array, R: jax.Array) -> jax.Array:
        """The float32 value of every code."""

    @abc.abstractmethod
    def place(self, weights: jax.Array, R: jax.Array) -> Place:
        """Where each weight lies among the thresholds."""

    def quantize(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        """The quantized weights: `values(codes(weights))`, and NaN where a weight is NaN."""
        # Without the select XLA's CPU backend quantizes anew in every transpose of the result: docs/performance.md.
        return jnp.where(jnp.isnan(weights), weights, self.values(self.codes(weights, R), R))

    def clip_to_cell(self, weights: jax.Array, codes: jax.Array, R: jax.Array) -> jax.Array:
        """The float32 nearest to each weight that lies in the range and has the given code.

        The last float of each cell is found by bisection over the floats themselves, so the result
        has the wanted code even where rounding moves a threshold by a few units in the last place.
        """
        first = _first_float_of_each_code(self, jnp.asarray(R))  # (intervals + 2, ...) with the axes of R
        channel = np.indices(first.shape[1:], sparse=True)  # broadcasts against the weights as R does
        return jnp.clip(weights, first[codes, *channel], jnp.nextafter(first[codes + 1, *channel], -jnp.inf))


class EvenQuantizer(Quantizer):
    """A symmetric quantizer with evenly spaced values; ties go to the even code."""

    def step_size(self, R: jax.Array) -> jax.Array:
        return 2 * R / self.intervals

    def codes(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        # XLA rewrites a division by D as it sees fit, otherwise here than there, and a few weights in
        # a million would change their code with the context. One product, by a factor that no
        # rewriting can reach, rounds the same everywhere.
        steps_per_unit = self.intervals / jax.lax.optimization_barrier(2 * R)
        shifted = jnp.clip(weights, -R, R) + R
        codes = jnp.round(shifted * jax.lax.optimization_barrier(steps_per_unit)).astype(jnp.int32)
        return jnp.clip(codes, 0, self.intervals)  # 2R/D may round above the last code

    def values(self, codes: jax.Array, R: jax.Array) -> jax.Array:
        return -R + codes.astype(jnp.float32) * self.step_size(R)

    def place(self, weights: jax.Array, R: jax.Array) -> Place:
        step = self.step_size(R)
        clipped = jnp.clip(weights, -R, R)
        cell = jnp.clip(jnp.floor((clipped + R) / step), 0, self.intervals - 1)
        threshold = (cell - (self.intervals - 1) / 2) * step  # exactly 0 in the middle
        return Place(threshold, jnp.clip((clipped - threshold) / step, -0.5, 0.5), step)


@dataclasses.dataclass(frozen=True)
class UniformQuantizer(EvenQuantizer):
    """The quantizer with `2**bits` values.

    Attributes:
      bits: an integer in 1..8.

    Raises:
      ValueError: if `bits` is not an integer in 1..8.
    """

    bits: int

    def __post_init__(self):
        if type(self.bits) is not int or not 1 <= self.bits <= MAX_BITS:
            raise ValueError(f'bits must be an integer in 1..{MAX_BITS}, got {self.bits!r}')

    @property
    def name(self) -> str:
        return f'{self.bits} bit{"s" if self.bits > 1 else ""}'

    @property
    def intervals(self) -> int:
        return 2**self.bits - 1


@dataclasses.dataclass(frozen=True)
class TernaryQuantizer(EvenQuantizer):
    """Values -R, 0 and R, thresholds at -R/2 and R/2 (BitNet b1.58, arXiv 2402.17764, with R the mean of |w|)."""

    name = 'ternary'
    intervals = 2
    bits = math.log2(3)


@dataclasses.dataclass(frozen=True)
class MidTreadQuantizer(EvenQuantizer):
    """Integers -Q..Q times R/Q, Q = 2^(stored_bits - 1) - 1, so that 0 is a value; ties go to the even integer.

    What integer formats hold but for their least number, as activations are rounded in BitNet b1.58 (arXiv 2402.17764,
    equations 4 and 5, with R the largest magnitude).

    Attributes:
      stored_bits: an integer in 2..8, that a code is stored in; `bits`, log2 of the number of values, is a bit less.

    Raises:
      ValueError: if `stored_bits` is not an integer in 2..8.
    """

    stored_bits: int

    def __post_init__(self):
        if type(self.stored_bits) is not int or not 2 <= self.stored_bits <= MAX_BITS:
            raise ValueError(f'a quantizer with 0 as a value has 2..{MAX_BITS} bits, got {self.stored_bits!r}')

    @property
    def name(self) -> str:
        return f'int{self.stored_bits}'

    @property
    def intervals(self) -> int:
        return 2**self.stored_bits - 2

    @property
    def bits(self) -> float:
        return math.log2(self.intervals + 1)

    def codes(self, weights: jax.Array, R: jax.Array) -> jax.Array:
        largest = self.intervals // 2
        levels_per_unit = jax.lax.optimization_barrier(largest / jax.lax.optimization_barrier(R))  # as above
        levels = jnp.round(jnp.clip(weights, -R, R) * levels_per_unit).astype(jnp.int32)
        return jnp.clip(levels, -largest, largest) + largest

    def values(self, codes: jax.Array, R: jax.Array) -> jax.Array:
        largest = self.intervals // 2
        return (codes - largest).astype(jnp.float32) * (R / largest)  # exactly 0 in the middle


@functools.partial(jax.jit, static_argnums=0)  # outside of a compiled program, the loop would be compiled at each call
def _first_float_of_each_code(quantizer: Quantizer, ranges: jax.Array) -> jax.Array:
    """For ranges of any shape: the smallest float32 in [-R, R] of every code, then the first one above R."""
    codes = jnp.arange(1, quantizer.intervals + 1).reshape(-1, *(1,) * ranges.ndim)
    ranges = ranges[None]  # of one rank with the codes
    low = _float_to_ordinal(quantizer.values(codes - 1, ranges))
    high = _float_to_ordinal(quantizer.values(codes, ranges))

    def halve(_, bracket):
        low, high = bracket  # codes(low) < codes <= codes(high)
        middle = (low & high) + ((low ^ high) >> 1)  # the mean, without overflow
        reached = quantizer.codes(_ordinal_to_float(middle), ranges) >= codes
        return jnp.where(reached, low, middle), jnp.where(reached, middle, high)

    _, high = jax.lax.fori_loop(0, 33, halve, (low, high))
    above = jnp.nextafter(ranges, jnp.full_like(ranges, jnp.inf))
    return jnp.concatenate([-ranges, _ordinal_to_float(high), above])


def _float_to_ordinal(x: jax.Array) -> jax.Array:
    """int32 that orders float32 as their values do: consecutive floats are consecutive integers."""
    bits = jax.lax.bitcast_convert_type(x.astype(jnp.float32), jnp.int32)
    return jnp.where(bits < 0, jnp.int32(-(2**31)) - bits, bits)


def _ordinal_to_float(ordinal: jax.Array) -> jax.Array:
    bits = jnp.where(ordinal < 0, jnp.int32(-(2**31)) - ordinal, ordinal)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)

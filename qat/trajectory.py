"""Streaming comparison of two weight trajectories, exact and in O(1) memory a weight.

Quantized weights change their codes at *change points*. Storing them all does not scale; instead
every run keeps, per weight, a polynomial hash (modulo 2^32) of its sequence of codes, the number of
its change points, and the same for the sequence after removing oscillations with a stack. A pair
keeps the sum over steps of |N_reference - N_twin|, N the change points so far, which for equal
sequences is the sum over change points of their distance in time. Nothing of this needs touching
on a step on which a weight's codes do not change.

Bytes per quantized weight: 19 a run, 4 a pair, and 4 a pair for the twin's start. Codes are
integers and compared as such. Definitions: arXiv 2405.05171, section 5 and appendix.
"""

from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

_BASE = 0x9E3779B1  # odd, so that a hash can be undone
_BASE_INVERSE = pow(_BASE, -1, 2**32)
_COUNTS_OF_CODES = ('codes_reference', 'codes_twin')
_CHUNK = 2**15  # 16-bit numbers of which as many are summed in 32 bits


@struct.dataclass
class History:
    """What one run remembers of its codes; every field is shaped like the weights.

    Attributes:
      code: the current one, the top of the stack, uint8.
      second: the entry below it, uint8.
      third: the entry below that, uint8.
      hash: of the sequence of codes, uint32.
      changes: the number of change points N, int32.
      stack_hash: of the compressed sequence, uint32.
      stack_length: of the compressed sequence, int32.
    """

    code: jax.Array
    second: jax.Array
    third: jax.Array
    hash: jax.Array
    changes: jax.Array
    stack_hash: jax.Array
    stack_length: jax.Array

    @property
    def oscillations(self) -> jax.Array:
        """Every change point pushes on the stack, or pops from it and counts as an oscillation."""
        return (1 + self.changes - self.stack_length) // 2


def begin(codes: jax.Array) -> History:
    """The history of a run that starts with these codes, integers in 0..255."""
    code, nothing, zero = codes.astype(jnp.uint8), jnp.zeros_like(codes, jnp.uint8), jnp.zeros_like(codes, jnp.int32)
    first = code.astype(jnp.uint32) + 1
    return History(code, nothing, nothing, hash=first, changes=zero, stack_hash=first, stack_length=zero + 1)


def advance(history: History, codes: jax.Array) -> History:
    """The history one step later, from the codes there: integers in 0..255, shaped like its fields.

    A new code that equals the second entry from the top of the stack, while the top equals the
    third, pops the top (an oscillation a b a b collapses to a b); any other new code is pushed. The
    stack never holds x y x y, so no two pops follow each other and the top three are enough: what
    becomes third in a pop is unknown, and with another code than the top's it allows no second pop.
    """
    code, top = codes.astype(jnp.uint8), history.code
    changed = code != top
    popped = changed & (history.stack_length >= 3) & (code == history.second) & (top == history.third)
    popped_hash = (history.stack_hash - top - 1) * jnp.uint32(_BASE_INVERSE)
    stack_hash = jnp.where(popped, popped_hash, _pushed(history.stack_hash, code))
    return History(
        code=code,
        second=jnp.where(changed, top, history.second),
        third=jnp.where(popped, top, jnp.where(changed, history.second, history.third)),
        hash=jnp.where(changed, _pushed(history.hash, code), history.hash),
        changes=history.changes + changed,
        stack_hash=jnp.where(changed, stack_hash, history.stack_hash),
        stack_length=history.stack_length + jnp.where(popped, -1, changed),
    )


def _pushed(hash_: jax.Array, code: jax.Array) -> jax.Array:
    """The hash of a sequence with one more code."""
    return hash_ * jnp.uint32(_BASE) + code + 1


@struct.dataclass
class Path:
    """What a twin remembers of its weights.

    Attributes:
      start: its initial weights v(0), shaped like the weights.
      length: the scalar sum over steps and weights of |v(s) - v(s-1)| / R, float32 ...
      compensation: ... and what float32 has lost of it so far (Kahan; a plain sum stalls).
    """

    start: jax.Array
    length: jax.Array
    compensation: jax.Array


def begin_path(weights: jax.Array) -> Path:
    """The path of a twin that starts with these weights."""
    return Path(jnp.copy(weights), jnp.float32(0), jnp.float32(0))


def advance_path(path: Path, before: jax.Array, after: jax.Array, R: jax.Array) -> Path:
    """The path one update later, from the weights before and after it (any shape); R broadcasts against them."""
    term = _sum_in_ranges(jnp.abs(after - before), R) - path.compensation
    length = path.length + term
    return path.replace(length=length, compensation=(length - path.length) - term)


def advance_lag(lag: jax.Array, reference: History, twin: History, steps: jax.Array | int = 1) -> jax.Array:
    """Adds |N_reference - N_twin| to the accumulator of change-point error, for so many steps at which they are these.

    `lag` is uint32, modulo 2^32, and shaped like the weights; `steps` broadcasts against them.
    """
    return lag + jnp.abs(reference.changes - twin.changes).astype(jnp.uint32) * jnp.asarray(steps, jnp.uint32)


def measure_weights(mapped_reference, reference_codes, twin, twin_codes, path: Path, R) -> dict[str, jax.Array]:
    """Sums over one layer's weights for the alignment errors and the agreement of codes.

    Args:
      mapped_reference: M(w), or w where the twin's map is the identity; any shape, as the next three.
      reference_codes: int32, of the reference w.
      twin: v.
      twin_codes: int32, of v.
      path: of the twin.
      R: the range, which broadcasts against them.

    Returns:
      Scalars; `summarize` turns them into metrics.
    """
    return {
        'weights': jnp.int32(twin.size),
        'distance': _sum_in_ranges(jnp.abs(mapped_reference - twin), R),
        'path': path.length,
        'displacement': _sum_in_ranges(jnp.abs(twin - path.start), R),
        'agreeing': jnp.sum(reference_codes == twin_codes),
    }


def measure_movement(start_codes, codes, path: Path, step_size) -> dict[str, jax.Array]:
    """Sums over one layer's weights of how much happened to the twin; see `summarize`.

    Args:
      start_codes: int32, of the twin's start; any shape.
      codes: int32, of the twin, of that shape.
      path: of the twin.
      step_size: of the quantizer where the range is 1.
    """
    return {'changed': jnp.sum(start_codes != codes), 'path_in_step_sizes': path.length / step_size}


def measure_codes(reference_codes, twin_codes, count: int) -> dict[str, jax.Array]:
    """How many of one layer's weights have each of `count` codes, int32 (count,), in both runs; see `summarize`."""

    def counted(codes: jax.Array) -> jax.Array:
        # One code after another: a comparison with all at once might be kept in memory, and sums need no scatter.
        return jax.lax.map(lambda code: jnp.sum(codes == code), jnp.arange(count))

    return {'codes_reference': counted(reference_codes), 'codes_twin': counted(twin_codes)}


def measure_histories(reference: History, twin: History, lag: jax.Array) -> dict[str, jax.Array]:
    """Counts over one layer's weights for everything that depends on change points; see `summarize`.

    `lag` is shaped like the weights, uint32, as `advance_lag` leaves it after the last step.
    """
    moved = (reference.changes > 0) | (twin.changes > 0)
    agreeing = reference.code == twin.code
    identical = (reference.hash == twin.hash) & (reference.changes == twin.changes)
    compressed = (reference.stack_hash == twin.stack_hash) & (reference.stack_length == twin.stack_length)
    return {
        'moved': jnp.sum(moved),
        'agreeing_moved': jnp.sum(agreeing & moved),
        'identical': jnp.sum(identical),
        'identical_moved': jnp.sum(identical & moved),
        'identical_compressed': jnp.sum(compressed),
        'lag': _sum_exactly(jnp.where(identical, lag, 0)),
        'change_points': _sum_exactly(jnp.where(identical, twin.changes, 0)),
        'oscillations_reference': _sum_exactly(reference.oscillations),
        'oscillations_twin': _sum_exactly(twin.oscillations),
        'flips_reference': _sum_exactly(reference.changes),
        'flips_twin': _sum_exactly(twin.changes),
        'unflipped_reference': jnp.sum(reference.changes == 0),
        'unflipped_twin': jnp.sum(twin.changes == 0),
    }


def _sum_in_ranges(distances: jax.Array, R: jax.Array) -> jax.Array:
    """The sum of distances / R, which divides once a range: XLA's CPU backend would write R out for every weight."""
    shared = tuple(axis for axis, side in enumerate(jnp.shape(R) or (1,) * distances.ndim) if side == 1)
    return jnp.sum(jnp.sum(distances, axis=shared, keepdims=True) / R)


def _sum_exactly(counts: jax.Array) -> jax.Array:
    """uint32 (2, chunks): partial sums of the low and high halves, to be added in 64 bits on the host."""
    flat = counts.astype(jnp.uint32).reshape(-1)
    chunks = jnp.pad(flat, (0, -flat.size % _CHUNK)).reshape(-1, _CHUNK)
    return jnp.stack([jnp.sum(chunks & 0xFFFF, axis=1), jnp.sum(chunks >> 16, axis=1)])


def _total(values: Iterable) -> int | float:
    """Sums a quantity over layers in 64 bits."""
    total = 0
    for value in map(np.asarray, values):
        if value.ndim:
            low, high = value.astype(np.uint64).sum(axis=1)
            total += int(low) + (int(high) << 16)
        else:
            total += value.item()
    return total


def _shares(counts: list) -> list[float] | None:
    """The share of all weights at each code; None where layers have unequally many codes, or nothing was counted."""
    if not counts or len({len(of_layer) for of_layer in counts}) > 1:
        return None
    total = np.sum([np.asarray(of_layer, np.int64) for of_layer in counts], axis=0)
    return (total / total.sum()).tolist()


def summarize(layers: Iterable[dict]) -> dict[str, float | int | list[float] | None]:
    """The metrics of a set of layers from their sums, on the host and in 64 bits.

    Args:
      layers: the merged results of `measure_weights`, `measure_movement`, `measure_codes` and, where change points are
        tracked, `measure_histories`, one dict a layer.

    Returns:
      Metrics by their names; None where a denominator is zero or nothing was tracked.
    """
    layers = list(layers)
    shares = {key: _shares([layer[key] for layer in layers if key in layer]) for key in _COUNTS_OF_CODES}
    total = {key: _total(layer[key] for layer in layers) for key in layers[0] if key not in shares}

    def ratio(numerator: str, denominator: str) -> float | None:
        return total[numerator] / total[denominator] if numerator in total and total.get(denominator) else None

    return {
        'weight_alignment_error': ratio('distance', 'path'),
        'weight_alignment_error_displacement': ratio('distance', 'displacement'),
        'quantized_weight_agreement': ratio('agreeing', 'weights'),
        'quantized_weight_agreement_moved': ratio('agreeing_moved', 'moved'),
        'moved_fraction': ratio('moved', 'weights'),
        'changed_codes': total.get('changed'),
        'changed_fraction': ratio('changed', 'weights'),
        'path_length': ratio('path_in_step_sizes', 'weights'),
        'change_point_sequence_agreement': ratio('identical', 'weights'),
        'change_point_sequence_agreement_moved': ratio('identical_moved', 'moved'),
        'compressed_change_point_sequence_agreement': ratio('identical_compressed', 'weights'),
        'average_change_point_error': ratio('lag', 'change_points'),
        'oscillations_reference': total.get('oscillations_reference'),
        'oscillations_twin': total.get('oscillations_twin'),
        'flips_reference': total.get('flips_reference'),
        'flips_twin': total.get('flips_twin'),
        'never_flipped_reference': ratio('unflipped_reference', 'weights'),
        'never_flipped_twin': ratio('unflipped_twin', 'weights'),
        'code_shares_reference': shares['codes_reference'],
        'code_shares_twin': shares['codes_twin'],
    }

"""What the chip does by itself: its rate of multiplying large matrices, and of copying memory."""

import jax
import jax.numpy as jnp

from scripts.accelerating.record import Session
from scripts.benchmarks.rows import seconds

_ROUNDS = 5


def rates(session: Session) -> None:
    """Two figures, in a few seconds."""
    side, repeats = (256, 2) if session.tiny else (8192, 20)
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)  # of ones, chips run faster
    product = jax.jit(lambda left, right: jnp.dot(left, right, preferred_element_type=jnp.bfloat16))
    operations = 2 * side**3
    samples = [repeats * operations / spent / 1e12 for spent in _timed(lambda: product(matrix, matrix), repeats)]
    what = f'operations of a product of two bfloat16 matrices, {side}x{side}'
    session.add('chip-product', what, samples, 'TFLOP/s')

    numbers = 2**20 if session.tiny else 2**28  # of 4 bytes
    array = jnp.zeros(numbers, jnp.float32)
    add = jax.jit(lambda array: array + 1)
    samples = [repeats * 2 * array.nbytes / spent / 1e9 for spent in _timed(lambda: add(array), repeats)]
    what = f'bytes read and written when 1 is added to every number of an array of {array.nbytes / 1e9:.3g} GB'
    session.add('chip-copy', what, samples, 'GB/s')


def _timed(dispatch, repeats: int) -> list[float]:
    """Seconds of so many dispatches; the first round, which compiles, is left out."""

    def all_of_them():
        for _ in range(repeats):
            result = dispatch()
        jax.block_until_ready(result)

    return [seconds(all_of_them) for _ in range(_ROUNDS + 1)][1:]

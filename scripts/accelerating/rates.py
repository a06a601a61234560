"""What the chip does by itself: its rate of multiplying large matrices, and of copying memory."""

import jax
import jax.numpy as jnp

from scripts.measuring.session import Session, timed


def rates(session: Session) -> None:
    """Two figures, in a few seconds."""
    side, repeats = (256, 2) if session.tiny else (8192, 20)
    matrix = jax.random.normal(jax.random.key(0), (side, side), jnp.bfloat16)  # of ones, chips run faster
    product = jax.jit(lambda left, right: jnp.dot(left, right, preferred_element_type=jnp.bfloat16))
    operations = 2 * side**3 / 1e12
    what = f'operations of a product of two bfloat16 matrices, {side}x{side}'
    _rate(session, 'chip-product', what, lambda: product(matrix, matrix), operations, repeats, 'TFLOP/s')

    array = jnp.zeros(2**20 if session.tiny else 2**28, jnp.float32)
    add, size = jax.jit(lambda array: array + 1), array.nbytes / 1e9
    what = f'bytes read and written when 1 is added to every number of an array of {size:.3g} GB'
    _rate(session, 'chip-copy', what, lambda: add(array), 2 * size, repeats, 'GB/s')


def _rate(session: Session, name: str, what: str, dispatch, amount: float, repeats: int, unit: str) -> None:
    """Records how much of what one dispatch does goes into a second of many."""

    def all_of_them():
        for _ in range(repeats):
            result = dispatch()
        jax.block_until_ready(result)

    session.add(name, what, [repeats * amount / spent for spent in timed(all_of_them, session.rounds)], unit)

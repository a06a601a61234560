"""What a device reaches at its best: the rate of a large matrix product, the bandwidth of a large array."""

import jax
import jax.numpy as jnp

from scripts.benchmarks.programs import Program, repeated
from scripts.benchmarks.rows import seconds

ROUNDS, TIMES = 5, 4  # the best round counts; products, or passes over the array, in one


def matrix_rate(dtype: jnp.dtype) -> float:
    """Floating point operations a second, at the default precision."""
    side = 2048 if jax.default_backend() == 'cpu' else 8192
    left, right = (jax.random.normal(key, (side, side), dtype) for key in jax.random.split(jax.random.key(0)))
    product = jax.jit(jnp.matmul)
    return 2 * side**3 * TIMES / _best(repeated(lambda _: product(left, right), None, TIMES))


def bandwidth() -> float:
    """Bytes a second, read and written, of an array that no cache holds."""
    array = jnp.ones(2**26 if jax.default_backend() == 'cpu' else 2**28, jnp.float32)
    size = array.nbytes
    return 2 * size * TIMES / _best(repeated(jax.jit(jnp.negative, donate_argnums=0), array, TIMES))


def _best(program: Program) -> float:
    return min(seconds(program) for _ in range(ROUNDS))

"""How close a bare training step comes to what the machine can do: to its rates of products and of memory.

The operations of a step are those that XLA counts before it optimizes, its bytes those that it counts in what it
compiles: read and written by every instruction, as if nothing stayed in a cache.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from scripts.measuring.programs import plain
from scripts.measuring.session import Session, seconds
from scripts.measuring.workloads import CONVNET, DIGITS, RESNET, Workload


def product(session: Session) -> tuple[Callable, float]:
    """A large product of float32 matrices, and its operations."""
    side = 128 if session.tiny else 2048
    matrix = jax.random.normal(jax.random.key(0), (side, side))
    multiply = jax.jit(jnp.matmul)
    return lambda: jax.block_until_ready(multiply(matrix, matrix)), 2 * side**3


def copy(session: Session) -> tuple[Callable, float]:
    """Adding 1 to every number of an array that no cache holds, and the bytes read and written."""
    array = jnp.zeros(2**16 if session.tiny else 2**26)
    add = jax.jit(lambda array: array + 1, donate_argnums=0)

    def run():
        nonlocal array
        array = jax.block_until_ready(add(array))

    return run, 2 * array.nbytes


def roofline(name: str, workload: Workload, session: Session) -> None:
    """Shares of a step's time: in which its operations would be done, and in which its bytes would be moved."""
    workload, steps = session.sized(workload), session.steps
    step = plain(workload).compile()
    needed = {'operations': step.operations(), 'bytes': step.compiled.cost_analysis()['bytes accessed']}
    for unit, (probe, amount) in {'operations': product(session), 'bytes': copy(session)}.items():
        samples, rates = [], []
        for _ in range(session.rounds + 1):
            rates.append(amount / seconds(probe))
            samples.append(needed[unit] / rates[-1] / (seconds(lambda: step(steps)) / steps))
        what = f'time of the {unit} of a bare step at the rate of the machine / the step, {workload.what}'
        details = {unit: needed[unit], f'{unit}_a_second': rates[1:]}
        session.add(f'{name}-{unit}', what, samples[1:], details=details)  # the first round warms up


BENCHMARKS = {
    f'roofline-{name}': functools.partial(roofline, f'roofline-{name}', workload)
    for name, workload in {'convnet': CONVNET, 'digits': DIGITS, 'resnet': RESNET}.items()
}

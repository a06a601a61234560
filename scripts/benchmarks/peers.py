"""The paper's ConvNet in Keras, in plain Flax and here: steps on the same batch, in turn, on a CPU.

Here it is a single run with quantized kernels; in the other two nothing is quantized. Each makes bare compiled steps
on a batch that lies ready. The other two have a process each, so that they are what they are without this project:
neither its allocation of memory nor threads of another library reach them. A process sleeps while it is not its turn.
"""

import concurrent.futures
import contextlib
import functools
import multiprocessing
from collections.abc import Callable
from importlib import metadata

import jax

from scripts.benchmarks import in_flax, in_keras
from scripts.measuring.programs import alone
from scripts.measuring.session import Session, seconds
from scripts.measuring.workloads import CONVNET, Workload

_PEERS = {'keras': in_keras.Training, 'flax': in_flax.training}
_WHAT = {'keras': 'Keras', 'flax': 'plain Flax', 'quantized': 'a single quantized run here'}


def process() -> concurrent.futures.ProcessPoolExecutor:
    """One fresh process, which ends with the context."""
    return concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context('spawn'))


def seconds_of(build: Callable, workload: Workload, steps: int) -> float:
    """What so many steps take, timed in the process that makes them, so that asking for them does not count."""
    program = _built(build, workload)
    return seconds(lambda: program(steps))


@functools.cache
def _built(build: Callable, workload: Workload) -> Callable[[int], object]:
    return build(workload)


def peers(session: Session) -> None:
    """The steps a second of each, and the time of a step here over that of a step of the other two."""
    if jax.default_backend() != 'cpu':
        return session.record.leave_out('peers', 'TensorFlow computes on the CPU only, and jax on another device')
    workload, steps = session.sized(CONVNET), session.steps
    with contextlib.ExitStack() as processes:
        asked = {
            name: functools.partial(processes.enter_context(process()).submit, seconds_of, build, workload, steps)
            for name, build in _PEERS.items()
        }

        def in_turn() -> dict[str, float]:
            elsewhere = {name: ask().result() for name, ask in asked.items()}
            return {**elsewhere, 'quantized': seconds_of(alone, workload, steps)}

        rounds = [in_turn() for _ in range(session.rounds + 1)][1:]  # the first warms up
    details = {'keras': metadata.version('keras'), 'steps': steps, 'rounds': rounds}
    for name, what in _WHAT.items():
        samples = [steps / each[name] for each in rounds]
        session.add(f'peers-{name}', f'steps a second, {what}, {workload.what}', samples, 'steps/s', details=details)
    for name, limit in (('keras', 1.0), ('flax', None)):
        what = f'quantized step / a step of {_WHAT[name]}, {workload.what}'
        samples = [each['quantized'] / each[name] for each in rounds]
        session.add(f'peers-to-{name}', what, samples, limit=limit, details=details)


BENCHMARKS = {'peers': peers}

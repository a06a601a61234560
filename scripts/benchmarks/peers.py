"""The paper's ConvNet in Keras, in plain Flax and here: steps on the same batch, in turn, on a CPU.

Here it is a single run with quantized kernels; in the other two nothing is quantized. Each makes bare compiled steps
on a batch that lies ready. Keras has a process of its own, because the threads of TensorFlow and of jax would disturb
each other in one. It sleeps while the other two run, and they wait while it runs.
"""

from importlib import metadata

import jax

from scripts.benchmarks import in_flax, in_keras
from scripts.measuring.programs import alone
from scripts.measuring.session import Session, seconds
from scripts.measuring.workloads import CONVNET

_WHAT = {'keras': 'Keras', 'flax': 'plain Flax', 'quantized': 'a single quantized run here'}


def peers(session: Session) -> None:
    """The steps a second of each, and the time of a step here over that of a step of the other two."""
    if jax.default_backend() != 'cpu':
        return session.record.leave_out('peers', 'TensorFlow computes on the CPU only, and jax on another device')
    workload, steps = session.sized(CONVNET), session.steps
    flax, quantized = in_flax.training(workload), alone(workload)
    with in_keras.process() as keras:
        programs = {
            'keras': lambda: keras.submit(in_keras.seconds_of, workload, steps).result(),
            'flax': lambda: seconds(lambda: flax(steps)),
            'quantized': lambda: seconds(lambda: quantized(steps)),
        }
        # The first round warms up.
        rounds = [{name: run() for name, run in programs.items()} for _ in range(session.rounds + 1)][1:]
    details = {'keras': metadata.version('keras'), 'steps': steps, 'rounds': rounds}
    for name, what in _WHAT.items():
        samples = [steps / each[name] for each in rounds]
        session.add(f'peers-{name}', f'steps a second, {what}, {workload.what}', samples, 'steps/s', details=details)
    for name, limit in (('keras', 1.0), ('flax', None)):
        what = f'quantized step / a step of {_WHAT[name]}, {workload.what}'
        samples = [each['quantized'] / each[name] for each in rounds]
        session.add(f'peers-to-{name}', what, samples, limit=limit, details=details)


BENCHMARKS = {'peers': peers}

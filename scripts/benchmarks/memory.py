"""The memory of a pair on one device: counted from the shapes of its state, and as XLA lays out the compiled step.

Neither needs the memory: nothing is run.
"""

import functools

import jax

from qat.lockstep.state import State
from scripts.measuring.programs import alone, training
from scripts.measuring.session import Session
from scripts.measuring.workloads import CONVNET, IMAGENET, PAIR, Workload

BYTES_A_WEIGHT_AND_RUN, BYTES_A_WEIGHT_AND_TWIN = 24, 4  # what tracking may take; the second is v(0)
_PAIR_TO_TWO_RUNS = 1.10


def shapes(workload: Workload, twins=PAIR, **options) -> State:
    """The state before the first step, without its numbers."""
    return jax.eval_shape(workload.programs(twins, **options).init, jax.random.key(0))


def size(tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def count(state: State) -> dict:
    """Bytes of a lockstep's state; 'starts' is v(0) of all twins, a part of tracking. And its quantized weights."""
    starts = [[path.start for path in layers.values()] for layers in state.tracking.paths.values()]
    return {
        'total': size(state),
        'runs': {name: size(run) for name, run in state.runs.items()},
        'tracking': size(state.tracking),
        'starts': size(starts),
        'quantized_weights': sum(start.size for start in starts[0]),
    }


def bytes_a_weight(counted: dict) -> tuple[float, float]:
    """Of tracking: (without v(0), a quantized weight and run; v(0), a quantized weight and twin)."""
    weights, runs = counted['quantized_weights'], len(counted['runs'])
    return (counted['tracking'] - counted['starts']) / weights / runs, counted['starts'] / weights / (runs - 1)


def memory(name: str, workload: Workload, session: Session) -> None:
    """Three figures: what tracking takes a weight, for v(0) and for the rest, and what a pair takes of a device."""
    workload = session.sized(workload)
    counted = count(shapes(workload))
    without, start = bytes_a_weight(counted)
    what = f'bytes of tracking, a quantized weight and run, v(0) apart, {workload.what}'
    session.add(f'{name}-tracking', what, [without], limit=BYTES_A_WEIGHT_AND_RUN, details=counted)
    what = f'bytes of v(0), a quantized weight and twin, {workload.what}'
    session.add(f'{name}-start', what, [start], limit=BYTES_A_WEIGHT_AND_TWIN)
    single, pair = (build(workload).compile().memory() for build in (alone, training))
    ratio, details = pair['total'] / (2 * single['total']), {'single': single, 'pair': pair}
    what = f'device memory of a pair / 2 single runs, {workload.what}'
    session.add(f'{name}-pair', what, [ratio], limit=_PAIR_TO_TWO_RUNS, details=details)


BENCHMARKS = {
    name: functools.partial(memory, name, workload)
    for name, workload in (('memory-convnet', CONVNET), ('memory-resnet', IMAGENET))
}

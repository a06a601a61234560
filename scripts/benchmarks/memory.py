"""The memory of a pair on one device: counted from the shapes of its state, and as XLA lays out the compiled step.

Neither needs the memory: nothing is run.
"""

import functools
from collections.abc import Iterator

import jax
from jax.stages import Compiled

from scripts.benchmarks.programs import State, lowered, shapes
from scripts.benchmarks.rows import Effort, Row
from scripts.benchmarks.workloads import ALONE, CONVNET, IMAGENET, PAIR, Workload

BYTES_A_WEIGHT_AND_RUN, BYTES_A_WEIGHT_AND_TWIN = 24, 4  # what tracking may take; the second is v(0)
_PAIR_TO_TWO_RUNS = 1.10


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


def laid_out(compiled: Compiled) -> dict:
    """Bytes of a compiled step: what goes in (the state is overwritten in place), what is computed in between."""
    found = compiled.memory_analysis()
    beside = found.output_size_in_bytes - found.alias_size_in_bytes
    parts = {'arguments': found.argument_size_in_bytes, 'temporary': found.temp_size_in_bytes, 'outputs_beside': beside}
    return {**parts, 'total': sum(parts.values())}


def rows(name: str, workload: Workload, effort: Effort) -> Iterator[Row]:
    """Three rows: what tracking takes a weight, for v(0) and for the rest, and what a pair takes of a device."""
    counted = count(shapes(workload, **PAIR))
    without, start = bytes_a_weight(counted)
    what = f'bytes of tracking, a quantized weight and run, v(0) apart, {workload.what}'
    yield Row(f'{name}-tracking', what, [without], BYTES_A_WEIGHT_AND_RUN, details=counted)
    what = f'bytes of v(0), a quantized weight and twin, {workload.what}'
    yield Row(f'{name}-start', what, [start], BYTES_A_WEIGHT_AND_TWIN)
    single, pair = (laid_out(lowered(workload, **of).compile()) for of in (ALONE, PAIR))
    ratio = pair['total'] / (2 * single['total'])
    what = f'device memory of a pair / 2 single runs, {workload.what}'
    yield Row(f'{name}-pair', what, [ratio], _PAIR_TO_TWO_RUNS, details={'single': single, 'pair': pair})


BENCHMARKS = {
    name: functools.partial(rows, name, workload)
    for name, workload in (('memory-convnet', CONVNET), ('memory-resnet', IMAGENET))
}

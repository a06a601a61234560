"""The memory of a pair on one device: counted from the shapes of its state, and as XLA lays out the compiled step.

Neither needs the memory: nothing is run. What a backend says it used, where it says so, goes beside them.
"""

import functools
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from experiments.training.programs import Programs
from experiments.training.runs import REFERENCE, Moment, State, kernels
from scripts.benchmarks.rows import Benchmark, Effort, Limit, Row
from scripts.benchmarks.workloads import ALONE, CONVNET, IMAGENET, PAIR, Workload

BYTES_A_WEIGHT_AND_RUN, BYTES_A_WEIGHT_AND_TWIN = 24, 4  # what tracking may take; the second is v(0)
PAIR_TO_TWO_RUNS = 1.10


def shapes(workload: Workload, programs: Programs) -> State:
    """The state before the first step, without its numbers."""
    init = functools.partial(programs.init, image_shape=workload.image_shape)
    return jax.eval_shape(init, jax.random.key(0))


def size(tree) -> int:
    """Bytes of all arrays of a tree."""
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def count(state: State) -> dict:
    """Bytes of a state: by run, by what is tracked, and in total."""
    tracking = state.tracking
    runs = {
        name: {
            'weights': size(run.params),
            'batch_norm': size(run.batch_stats),
            'optimizer': size(run.opt_state),
            'loss': size(run.loss),
        }
        for name, run in state.runs.items()
    }
    tracked = {kind: {run: size(of_run) for run, of_run in getattr(tracking, kind).items()} for kind in _KINDS}
    return {
        'quantized_weights': quantized_weights(state),
        'runs': runs,
        'tracking': tracked,
        'step_and_ranges': size((state.step, state.ranges)),
        'total': size(state),
    }


_KINDS = ('histories', 'lags', 'paths')  # of Tracking


def quantized_weights(state: State) -> int:
    """How many there are in one run."""
    return sum(kernel.size for kernel in kernels(state.ranges, state.runs[REFERENCE].params).values())


def bytes_a_weight(state: State) -> tuple[float, float]:
    """Of tracking: (without v(0), a quantized weight and run; v(0), a quantized weight and twin)."""
    weights, starts = quantized_weights(state), sum(size(path.start) for path in _paths(state))
    without = size(state.tracking) - starts
    return without / weights / len(state.runs), starts / weights / len(state.tracking.paths)


def _paths(state: State) -> list:
    return [path for layers in state.tracking.paths.values() for path in layers.values()]


def arguments(workload: Workload, state: State) -> tuple:
    """What a step on one device takes, as shapes."""
    images = jax.ShapeDtypeStruct((1, workload.batch_size, *workload.image_shape), workload.image_dtype)
    labels = jax.ShapeDtypeStruct((1, workload.batch_size), jnp.int32)
    return state, Moment(np.float32(0), np.float32(0), np.bool_(False)), images, labels


def laid_out(workload: Workload, programs: Programs) -> dict:
    """Bytes of the compiled step: what goes in (the state is overwritten in place), what is computed in between."""
    lowered = programs.step.lower(*arguments(workload, shapes(workload, programs)))
    found = lowered.compile().memory_analysis()
    beside = found.output_size_in_bytes - found.alias_size_in_bytes
    parts = {'arguments': found.argument_size_in_bytes, 'temporary': found.temp_size_in_bytes, 'outputs_beside': beside}
    return {**parts, 'total': sum(parts.values())}


def peak(workload: Workload, programs: Programs) -> int | None:
    """The device's peak after a step, where it tells and this is its highest of the process."""
    device = programs.devices[0]
    if not device.memory_stats():
        return None
    before = device.memory_stats()['peak_bytes_in_use']
    state = programs.placed(programs.init(jax.random.key(0), image_shape=workload.image_shape))
    state, moment, *batch = arguments(workload, state)
    jax.block_until_ready(programs.step(state, moment, *(np.zeros(part.shape, part.dtype) for part in batch)))
    after = device.memory_stats()['peak_bytes_in_use']
    return after if after > before else None


def rows(name: str, workload: Workload, effort: Effort) -> Iterator[Row]:
    """Three rows: what tracking takes a weight, for v(0) and for the rest, and what a pair takes of a device."""
    single, pair = workload.programs(**ALONE), workload.programs(**PAIR)
    states = {'single': shapes(workload, single), 'pair': shapes(workload, pair)}
    counted = {key: count(state) for key, state in states.items()}
    without, start = bytes_a_weight(states['pair'])
    what = f'bytes of tracking, a quantized weight and run, v(0) apart, {workload.what}'
    yield Row(f'{name}-tracking', what, [without], Limit(BYTES_A_WEIGHT_AND_RUN), counted)
    what = f'bytes of v(0), a quantized weight and twin, {workload.what}'
    yield Row(f'{name}-start', what, [start], Limit(BYTES_A_WEIGHT_AND_TWIN))
    # The smaller first: a device tells the highest peak of the process.
    compiled = {'single': laid_out(workload, single), 'pair': laid_out(workload, pair)}
    peaks = {'single': peak(workload, single), 'pair': peak(workload, pair)}
    details = {
        'state_bytes': {key: value['total'] for key, value in counted.items()},
        'step_bytes': compiled,
        'peak_bytes': peaks,
    }
    ratio = compiled['pair']['total'] / (2 * compiled['single']['total'])
    yield Row(f'{name}-pair', f'device memory of a pair / 2 single runs, {workload.what}', [ratio], _LIMIT, details)


_LIMIT = Limit(PAIR_TO_TWO_RUNS)
BENCHMARKS = tuple(
    Benchmark(name, functools.partial(rows, name, workload))
    for name, workload in (('memory-convnet', CONVNET), ('memory-resnet', IMAGENET))
)

"""Programs that are timed, built and compiled beforehand: training steps, in the trainer and by themselves."""

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled, Lowered

from experiments.data.batches import Batch
from experiments.training.programs import AXIS
from experiments.training.trainer import Trainer
from qat.lockstep.state import Moment, State
from scripts.benchmarks.workloads import ALONE, Workload

Program = Callable[[], object]
SEEDS = 16  # pairs in one program
_EVERYWHERE, _SPLIT, _STACKED = PartitionSpec(), PartitionSpec(AXIS), PartitionSpec(None, AXIS)


def repeated(step: Callable, state, times: int) -> Program:
    """So many times state -> step(state), compiled."""
    state = step(state)

    def run():
        nonlocal state
        for _ in range(times):
            state = step(state)
        jax.block_until_ready(state)

    return run


def training(workload: Workload, steps: int, **overrides) -> Program:
    """So many steps of the trainer, a pair's by default."""
    trainer = workload.trainer(**overrides)
    batches = list(itertools.islice(trainer.batches_from(0), steps))
    numbers = itertools.cycle(range(steps))

    def step(state):
        number = next(numbers)
        return trainer.advance(state, number, batches[number])

    return repeated(step, trainer.initial_state(), steps)


def separately(workload: Workload, steps: int) -> Program:
    """Five runs, the workload's estimator and its four twins, as trainings of one run each, one after the other."""
    estimators = [workload.settings().config.estimator] * 3 + ['ste'] * 2
    runs = [training(workload, steps, **ALONE, estimator=estimator) for estimator in estimators]
    return lambda: [run() for run in runs]


def under_jit(workload: Workload, steps: int, devices: int | None = None) -> Program:
    """A pair's step without pmap: jit of data with a NamedSharding, on all devices or so many."""
    trainer = workload.trainer()
    mesh = _mesh(trainer.devices[:devices])
    return _without_pmap(_step(trainer), trainer.initial_state(), workload.batch(), mesh, _SPLIT, steps)


def one_seed_after_another(workload: Workload, steps: int) -> Program:
    """As many steps as `seeds_together` makes."""
    return training(workload, steps * SEEDS)


def seeds_together(workload: Workload, steps: int) -> Program:
    """Steps of `SEEDS` pairs, each on a batch of its own, vmapped."""
    trainer = workload.trainer()
    states = jax.jit(jax.vmap(trainer.programs.init))(jax.random.split(jax.random.key(0), SEEDS))
    step = jax.vmap(_step(trainer), in_axes=(0, None, 0))
    return _without_pmap(step, states, _stacked(workload, SEEDS), _mesh(trainer.devices), _STACKED, steps)


def in_one_dispatch(workload: Workload, steps: int) -> Program:
    """All steps under `lax.scan`, with a batch for each."""
    trainer = workload.trainer()

    def scanned(state, moment, batches):
        def one(state, batch):
            return _step(trainer)(state, moment, batch), None

        return jax.lax.scan(one, state, batches)[0]

    batches, mesh = _stacked(workload, steps), _mesh(trainer.devices)
    return _without_pmap(scanned, trainer.initial_state(), batches, mesh, _STACKED, times=1)


def tracking(workload: Workload, steps: int) -> Program:
    """The tracking of so many paired steps and nothing else."""
    trainer = workload.trainer()
    state = trainer.initial_state()
    after = jax.tree.map(jnp.copy, state.runs)

    def track(tracked):
        return trainer.lockstep.track(state.replace(tracking=tracked), after)

    advance = jax.jit(track, donate_argnums=0)
    tracked = jax.tree.map(jnp.copy, state.tracking)
    return repeated(advance, tracked, steps)


def shapes(workload: Workload, **overrides) -> State:
    """The state before the first step, without its numbers."""
    return jax.eval_shape(workload.programs(**overrides).init, jax.random.key(0))


def lowered(workload: Workload, **overrides) -> Lowered:
    """The step on one device before it is compiled, a pair's by default; nothing is run for it."""
    batch = {
        'image': jax.ShapeDtypeStruct((1, workload.batch_size, *workload.image_shape), workload.image_dtype),
        'label': jax.ShapeDtypeStruct((1, workload.batch_size), jnp.int32),
    }
    step = workload.programs(**overrides).step
    return step.lower(shapes(workload, **overrides), _moment(), batch)


def stepping(workload: Workload, compiled: Compiled, steps: int, **overrides) -> Program:
    """So many times the step that `lowered` gives, compiled, on one batch of noise."""
    programs = workload.programs(**overrides)
    state = programs.init(jax.random.key(0))
    arguments = (state, _moment(), programs.sharded(workload.batch()))
    state, *rest = jax.device_put(arguments, compiled.input_shardings[0])
    return repeated(lambda state: compiled(state, *rest), state, steps)


def replicated(mesh: Mesh, tree):
    """The arrays, a copy on each device."""
    return jax.device_put(tree, NamedSharding(mesh, _EVERYWHERE))


def split_batch(workload: Workload) -> tuple[Mesh, Batch]:
    """The trainer's devices, and a batch split over them."""
    mesh = _mesh(workload.trainer().devices)
    return mesh, jax.device_put(workload.batch(), NamedSharding(mesh, _SPLIT))


def _mesh(devices: list) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _stacked(workload: Workload, batches: int) -> Batch:
    return {key: np.stack([part] * batches) for key, part in workload.batch().items()}


def _step(trainer: Trainer) -> Callable:
    """(state, moment, batch) -> state, under the axis `AXIS`."""
    return lambda state, moment, batch: trainer.lockstep.step(state, batch, moment)[0]


def _moment() -> Moment:
    return Moment(np.float32(1e-3), np.float32(0), np.bool_(False))


def _without_pmap(step: Callable, state, batch, mesh: Mesh, split: PartitionSpec, times: int) -> Program:
    """So many times (state, moment, batch) -> state under jit; shard_map gives the step the axis it names."""
    given = (_EVERYWHERE, _EVERYWHERE, split)
    mapped = jax.shard_map(step, mesh=mesh, in_specs=given, out_specs=_EVERYWHERE, check_vma=False)
    compiled = jax.jit(mapped, donate_argnums=0)
    batch = jax.device_put(batch, NamedSharding(mesh, split))
    # A moment is made for every step: what the trainer's moment costs the host is part of a step.
    return repeated(lambda state: compiled(state, _moment(), batch), replicated(mesh, state), times)

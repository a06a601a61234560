"""Several seeds, or several steps, in one program: what is lost where each is dispatched by itself."""

import functools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from experiments.setup.settings import AXIS
from experiments.training.runs import Moment, State
from experiments.training.trainer import Trainer
from scripts.benchmarks.programs import EVERYWHERE, Program, on_mesh, repeated, training, without_pmap
from scripts.benchmarks.workloads import Workload

SEEDS = 16
_MOMENT = Moment(np.float32(1e-3), np.float32(0), np.bool_(False))


def one_seed_after_another(workload: Workload, steps: int) -> Program:
    """As many steps as `seeds_together` makes."""
    return training(workload, steps * SEEDS)


def seeds_together(workload: Workload, steps: int) -> Program:
    """Steps of `SEEDS` pairs, each on a batch of its own, vmapped."""
    trainer = workload.trainer()
    init = functools.partial(trainer.lockstep.init, image_shape=workload.image_shape)
    states = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(0), SEEDS))
    step = jax.vmap(trainer.lockstep.step, in_axes=(0, None, 0, 0))
    return _repeated(trainer, step, states, SEEDS, steps)


def in_one_dispatch(workload: Workload, steps: int) -> Program:
    """All steps under `lax.scan`, with a batch for each."""
    trainer = workload.trainer()

    def scanned(state, moment, images, labels):
        def one(state, batch):
            return trainer.lockstep.step(state, moment, *batch), None

        return jax.lax.scan(one, state, (images, labels))[0]

    return _repeated(trainer, scanned, trainer.initial_state(), steps, 1)


def _repeated(trainer: Trainer, step: Callable, state: State, batches: int, times: int) -> Program:
    """A step that takes so many batches at once, so many times."""
    mesh, batch = on_mesh(trainer)
    split = PartitionSpec(None, AXIS)
    stacked = jax.device_put([np.stack([part] * batches) for part in batch], NamedSharding(mesh, split))
    compiled = without_pmap(step, mesh, split)
    state = jax.device_put(state, NamedSharding(mesh, EVERYWHERE))
    return repeated(lambda state: compiled(state, _MOMENT, *stacked), state, times)

"""Programs that are timed, built and compiled beforehand: steps of the trainer, and steps under jit."""

import itertools
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.setup.settings import AXIS
from experiments.training.trainer import Trainer
from scripts.benchmarks.workloads import Workload

Program = Callable[[], object]
EVERYWHERE, SPLIT = PartitionSpec(), PartitionSpec(AXIS)


def training(workload: Workload, steps: int, **overrides) -> Program:
    """So many steps of the trainer, a pair's by default."""
    trainer = workload.trainer(**overrides)
    batches = list(itertools.islice(trainer.batches_from(0), steps))
    state = trainer.advance(trainer.initial_state(), 0, batches[0])

    def run():
        nonlocal state
        for step, batch in enumerate(batches):
            state = trainer.advance(state, step, batch)
        jax.block_until_ready(state)

    return run


def repeated(step: Callable, state, steps: int) -> Program:
    """So many times state -> step(state), compiled."""
    state = step(state)

    def run():
        nonlocal state
        for _ in range(steps):
            state = step(state)
        jax.block_until_ready(state)

    return run


def without_pmap(step: Callable, mesh: Mesh, batches: PartitionSpec) -> Callable:
    """(state, moment, images, labels) -> state, under jit; shard_map gives the step the axis it names."""
    given, split = (EVERYWHERE, EVERYWHERE, batches, batches), {'out_specs': EVERYWHERE, 'check_vma': False}
    return jax.jit(jax.shard_map(step, mesh=mesh, in_specs=given, **split), donate_argnums=0)


def on_mesh(trainer: Trainer, devices: int | None = None) -> tuple[Mesh, list[jax.Array]]:
    """The trainer's devices, or so many of them, and a batch on them."""
    mesh = Mesh(np.array(trainer.devices[:devices]), (AXIS,))
    images_and_labels = next(trainer.batches.train(0, trainer.steps_per_epoch))
    return mesh, jax.device_put(list(images_and_labels), NamedSharding(mesh, SPLIT))

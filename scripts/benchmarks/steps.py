"""Training steps against other training steps: programs of the same number of steps, compiled before they are timed."""

import dataclasses
import functools
import itertools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from experiments.runs import Moment
from experiments.settings import AXIS, DTYPES, MODELS
from experiments.trainer import Trainer
from scripts.benchmarks.rows import Benchmark, Effort, Limit, Row, ratios
from scripts.benchmarks.workloads import ALONE, CONVNET, RESNET, Workload

Program = Callable[[], object]
_EVERYWHERE, _SPLIT = PartitionSpec(), PartitionSpec(AXIS)


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


def unquantized(workload: Workload, steps: int) -> Program:
    """The same Flax model with `nn.Conv` and the same optimizer: a bare jitted step, without anything of this project.

    On several devices jit splits it as the data is split, and with it the batch statistics.
    """
    settings = workload.settings(sync_batch_norm=False)
    model = MODELS[settings.config.model](settings.config)(
        conv=nn.Conv, classes=workload.classes, dtype=DTYPES[settings.config.compute_dtype]
    )
    optimizer = settings.optimizer.build(settings.config.learning_rate)

    def step(state, images, labels):
        params, rest, opt_state = state

        def loss_of(params):
            logits, updated = model.apply({'params': params, **rest}, images, train=True, mutable=['batch_stats'])
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), updated

        (_, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state

    mesh, batch = _on_mesh(workload.trainer())
    variables = dict(jax.jit(model.init)(jax.random.key(0), batch[0][:1]))
    params = variables.pop('params')
    state = jax.device_put((params, variables, optimizer.init(params)), NamedSharding(mesh, _EVERYWHERE))
    compiled = jax.jit(step, donate_argnums=0)
    return repeated(lambda state: compiled(state, *batch), state, steps)


def under_jit(workload: Workload, steps: int) -> Program:
    """A pair's step without pmap: jit of data with a NamedSharding; shard_map gives the step the axis it names."""
    trainer = workload.trainer()
    mesh, batch = _on_mesh(trainer)
    split = jax.shard_map(
        trainer.lockstep.step,
        mesh=mesh,
        in_specs=(_EVERYWHERE, _EVERYWHERE, _SPLIT, _SPLIT),
        out_specs=_EVERYWHERE,
        check_vma=False,
    )
    compiled = jax.jit(split, donate_argnums=0)
    state = jax.device_put(trainer.initial_state(), NamedSharding(mesh, _EVERYWHERE))

    def step(state):  # what the trainer's moment costs the host is part of a step
        return compiled(state, Moment(np.float32(1e-3), np.float32(0), np.bool_(False)), *batch)

    return repeated(step, state, steps)


def _on_mesh(trainer: Trainer) -> tuple[Mesh, list[jax.Array]]:
    """The trainer's devices, and a batch on them."""
    mesh = Mesh(np.array(trainer.devices), (AXIS,))
    images_and_labels = next(trainer.batches.train(0, trainer.steps_per_epoch))
    return mesh, jax.device_put(list(images_and_labels), NamedSharding(mesh, _SPLIT))


def tracking(workload: Workload, steps: int) -> Program:
    """The tracking of so many paired steps and nothing else."""
    trainer = workload.trainer()
    state = trainer.initial_state()
    advance = jax.jit(trainer.lockstep.track, donate_argnums=0)
    tracked = jax.tree.map(jnp.copy, state.tracking)
    return repeated(lambda tracked: advance(tracked, state.ranges, state.runs, state.runs), tracked, steps)


def separately(workload: Workload, steps: int) -> Program:
    """The runs of `TWINS` as five trainings of one run each, one after the other."""
    estimators = [workload.settings().config.estimator] * 3 + ['ste'] * 2
    runs = [training(workload, steps, **ALONE, estimator=estimator) for estimator in estimators]
    return lambda: [run() for run in runs]


TWINS = 'ste,naive_ste,jitter,self'  # four that are computed, under an optimizer of class map


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two programs; both are built and compiled before either is timed.

    Attributes:
      name, what, limit: of its row.
      workload: what they train.
      measured, baseline: (workload, steps) -> program.
      times: the baseline is a sum of so many equal programs.
    """

    name: str
    what: str
    workload: Workload
    measured: Callable[[Workload, int], Program]
    baseline: Callable[[Workload, int], Program]
    limit: float
    times: int = 1

    def rows(self, effort: Effort) -> Iterator[Row]:
        """Its row."""
        measured = self.measured(self.workload, effort.steps)
        baseline = self.baseline(self.workload, effort.steps * self.times)
        samples = ratios(measured, baseline, effort.rounds)
        yield Row(self.name, f'{self.what}, {self.workload.what}', samples, Limit(self.limit))


_without_tracking = functools.partial(training, track_change_points=False)
_alone = functools.partial(training, **ALONE)
_twins = functools.partial(training, twins=TWINS)


def _comparisons(model: str, workload: Workload) -> Iterator[Comparison]:
    yield Comparison(
        f'{model}-quantized', 'quantized step / the same model unquantized', workload, _alone, unquantized, 1.10
    )
    yield Comparison(f'{model}-pair', 'paired step / 2 unquantized steps', workload, training, unquantized, 1.05, 2)
    yield Comparison(
        f'{model}-tracking', 'paired step with all tracking / without', workload, training, _without_tracking, 1.05
    )


COMPARISONS = (
    *_comparisons('convnet', CONVNET),
    Comparison(
        'convnet-tracking-alone',
        'all tracking by itself / paired step without',
        CONVNET,
        tracking,
        _without_tracking,
        0.10,
    ),
    Comparison('convnet-twins', 'four twins in lockstep / five separate runs', CONVNET, _twins, separately, 0.90),
    Comparison('convnet-pmap', 'pmap step / under jit with NamedSharding', CONVNET, training, under_jit, 1.02),
    *_comparisons('resnet', RESNET),
)
BENCHMARKS = tuple(Benchmark(comparison.name, comparison.rows) for comparison in COMPARISONS)

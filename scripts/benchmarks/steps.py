"""Training steps against other training steps: programs of the same number of steps, compiled before they are timed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding

from experiments.setup.settings import DTYPES, MODELS
from experiments.training.runs import Moment
from scripts.benchmarks.batched import SEEDS, in_one_dispatch, one_seed_after_another, seeds_together
from scripts.benchmarks.programs import EVERYWHERE, SPLIT, Program, on_mesh, repeated, training, without_pmap
from scripts.benchmarks.rows import Benchmark, Effort, Limit, Row, ratios
from scripts.benchmarks.workloads import ALONE, CONVNET, RESNET, Workload


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

    mesh, batch = on_mesh(workload.trainer())
    variables = dict(jax.jit(model.init)(jax.random.key(0), batch[0][:1]))
    params = variables.pop('params')
    state = jax.device_put((params, variables, optimizer.init(params)), NamedSharding(mesh, EVERYWHERE))
    compiled = jax.jit(step, donate_argnums=0)
    return repeated(lambda state: compiled(state, *batch), state, steps)


def under_jit(workload: Workload, steps: int, devices: int | None = None) -> Program:
    """A pair's step without pmap: jit of data with a NamedSharding, on all devices or so many."""
    trainer = workload.trainer()
    mesh, batch = on_mesh(trainer, devices)
    compiled = without_pmap(trainer.lockstep.step, mesh, SPLIT)
    state = jax.device_put(trainer.initial_state(), NamedSharding(mesh, EVERYWHERE))

    def step(state):  # what the trainer's moment costs the host is part of a step
        return compiled(state, Moment(np.float32(1e-3), np.float32(0), np.bool_(False)), *batch)

    return repeated(step, state, steps)


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
      name, what: of its row.
      workload: what they train.
      measured, baseline: (workload, steps) -> program.
      cpu, accelerator: the limit that the row should keep there; None: it is only reported.
      times: the baseline is a sum of so many equal programs.
    """

    name: str
    what: str
    workload: Workload
    measured: Callable[[Workload, int], Program]
    baseline: Callable[[Workload, int], Program]
    cpu: Limit | None
    accelerator: Limit | None
    times: int = 1

    def rows(self, effort: Effort) -> Iterator[Row]:
        """Its row."""
        measured = self.measured(self.workload, effort.steps)
        baseline = self.baseline(self.workload, effort.steps * self.times)
        samples = ratios(measured, baseline, effort.rounds)
        limit = self.cpu if jax.default_backend() == 'cpu' else self.accelerator
        yield Row(self.name, f'{self.what}, {self.workload.what}', samples, limit)


_without_tracking = functools.partial(training, track_change_points=False)
_alone = functools.partial(training, **ALONE)
_twins = functools.partial(training, twins=TWINS)


def _comparisons(model: str, workload: Workload) -> Iterator[Comparison]:
    def comparison(name: str, what: str, measured, baseline, cpu: float, accelerator: float, times: int = 1):
        return Comparison(f'{model}-{name}', what, workload, measured, baseline, Limit(cpu), Limit(accelerator), times)

    yield comparison('quantized', 'quantized step / the same model unquantized', _alone, unquantized, 1.10, 1.03)
    yield comparison('pair', 'paired step / 2 unquantized steps', training, unquantized, 1.05, 1.05, times=2)
    yield comparison('tracking', 'paired step with all tracking / without', training, _without_tracking, 1.05, 1.02)
    yield comparison('pmap', 'pmap step / under jit with NamedSharding', training, under_jit, 1.02, 1.02)


COMPARISONS = (
    *_comparisons('convnet', CONVNET),
    Comparison(
        'convnet-tracking-alone',
        'all tracking by itself / paired step without',
        CONVNET,
        tracking,
        _without_tracking,
        Limit(0.10),
        Limit(0.10),
    ),
    Comparison(
        'convnet-twins',
        'four twins in lockstep / five separate runs',
        CONVNET,
        _twins,
        separately,
        Limit(0.90),
        Limit(0.80),
    ),
    Comparison(
        'convnet-seeds',
        f'pairs of {SEEDS} seeds one after the other / in one program',
        CONVNET,
        one_seed_after_another,
        seeds_together,
        None,
        Limit(5, at_least=True),
    ),
    Comparison(
        'convnet-dispatch',
        'a dispatch a step / all steps of a sample in one dispatch',
        CONVNET,
        training,
        in_one_dispatch,
        None,
        Limit(2, at_least=True),
    ),
    *_comparisons('resnet', RESNET),
)
BENCHMARKS = tuple(Benchmark(comparison.name, comparison.rows) for comparison in COMPARISONS)

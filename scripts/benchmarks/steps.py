"""Training steps against other training steps: programs of the same number of steps, compiled before they are timed."""

import dataclasses
import functools
from collections.abc import Callable, Iterator

import jax
import optax

from scripts.benchmarks import programs
from scripts.benchmarks.programs import SEEDS, Program, training
from scripts.benchmarks.rows import Effort, Row, ratios
from scripts.benchmarks.workloads import ALONE, CONVNET, RESNET, Workload

_TWINS = 'ste,naive_ste,jitter,self'  # four that are computed, under an optimizer of class map


def unquantized(workload: Workload, steps: int) -> Program:
    """The same Flax model with `nn.Conv` and the same optimizer: a bare jitted step, without anything of this project.

    On several devices jit splits it as the data is split, and with it the batch statistics.
    """
    settings, model = workload.settings(), workload.unquantized_model()
    optimizer = settings.optimizer.build(settings.config.learning_rate)

    def step(state, batch):
        params, rest, opt_state = state

        def loss_of(params):
            logits, updated = model.apply({'params': params, **rest}, batch['image'], train=True, mutable=list(rest))
            return optax.softmax_cross_entropy_with_integer_labels(logits, batch['label']).mean(), updated

        (_, rest), gradients = jax.value_and_grad(loss_of, has_aux=True)(params)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), rest, opt_state

    mesh, batch = programs.split_batch(workload)
    variables = dict(jax.jit(model.init)(jax.random.key(0), batch['image'][:1]))
    params = variables.pop('params')
    compiled = jax.jit(step, donate_argnums=0)
    state = programs.replicated(mesh, (params, variables, optimizer.init(params)))
    return programs.repeated(lambda state: compiled(state, batch), state, steps)


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two programs; both are built and compiled before either is timed.

    Attributes:
      name, what: of its row.
      measured, baseline: (workload, steps) -> program.
      cpu, accelerator: the limit that the row should keep there; None: it is only reported.
      at_least: whether the limits are from below.
      times: the baseline is a sum of so many equal programs.
      workload: what they train.
    """

    name: str
    what: str
    measured: Callable[[Workload, int], Program]
    baseline: Callable[[Workload, int], Program]
    cpu: float | None
    accelerator: float
    at_least: bool = False
    times: int = 1
    workload: Workload = CONVNET

    def rows(self, effort: Effort) -> Iterator[Row]:
        """Its row."""
        measured = self.measured(self.workload, effort.steps)
        baseline = self.baseline(self.workload, effort.steps * self.times)
        samples = ratios(measured, baseline, effort.rounds)
        limit = self.cpu if jax.default_backend() == 'cpu' else self.accelerator
        yield Row(self.name, f'{self.what}, {self.workload.what}', samples, limit, self.at_least)


_alone = functools.partial(training, **ALONE)
_twins = functools.partial(training, twins=_TWINS)
_without_tracking = functools.partial(training, track_change_points=False)

_OF_BOTH_MODELS = (
    Comparison('quantized', 'quantized step / the same model unquantized', _alone, unquantized, 1.10, 1.03),
    Comparison('pair', 'paired step / 2 unquantized steps', training, unquantized, 1.05, 1.05, times=2),
    Comparison('tracking', 'paired step with all tracking / without', training, _without_tracking, 1.05, 1.02),
    Comparison('pmap', 'pmap step / under jit with NamedSharding', training, programs.under_jit, 1.02, 1.02),
)
COMPARISONS = (
    *(dataclasses.replace(each, name=f'convnet-{each.name}') for each in _OF_BOTH_MODELS),
    Comparison(
        'convnet-tracking-alone',
        'all tracking by itself / paired step without',
        programs.tracking,
        _without_tracking,
        cpu=0.10,
        accelerator=0.10,
    ),
    Comparison(
        'convnet-twins',
        'four twins in lockstep / five separate runs',
        _twins,
        programs.separately,
        cpu=0.90,
        accelerator=0.80,
    ),
    Comparison(
        'convnet-seeds',
        f'pairs of {SEEDS} seeds one after the other / in one program',
        programs.one_seed_after_another,
        programs.seeds_together,
        cpu=None,
        accelerator=5,
        at_least=True,
    ),
    Comparison(
        'convnet-dispatch',
        'a dispatch a step / all steps of a sample in one dispatch',
        training,
        programs.in_one_dispatch,
        cpu=None,
        accelerator=2,
        at_least=True,
    ),
    *(dataclasses.replace(each, name=f'resnet-{each.name}', workload=RESNET) for each in _OF_BOTH_MODELS),
)
BENCHMARKS = {comparison.name: comparison.rows for comparison in COMPARISONS}

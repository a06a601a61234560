"""A reference run and its twins, trained on the same batches in the same compiled step.

For every run: rounding primitive on the quantized weights -> loss -> gradient -> optimizer -> new weights; then the
trajectories of the twins are compared with the reference's. All methods are pure functions, to be called under
`jax.jit`, `jax.pmap`, or neither.
"""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import optax

from qat import trajectory, weights
from qat.activations import all_inputs_rounded, in_words, inputs_rounded
from qat.estimators import Estimator, ste_with_clip_of
from qat.lockstep import checks, evaluation, ranged, updating
from qat.lockstep.cautions import cautions
from qat.lockstep.devices import mean_over_devices
from qat.lockstep.plan import Plan, Run, make
from qat.lockstep.spec import Spec, estimators, range_rules
from qat.lockstep.state import Moment, RunState, State
from qat.lockstep.tracking import Followed, Tracker, Tracking
from qat.lockstep.twins import REFERENCE
from qat.lockstep.verdict import FULL_PRECISION, Evidence, verdict
from qat.optimizers import Optimizer
from qat.policies import policy
from qat.probe import Probed
from qat.ranges import RangeRule
from qat.theory.recipe import obstacles


class Lockstep:
    """Trains a model with a gradient estimator beside its STE twins, and says whether it is STE in disguise.

    Args:
      loss: `loss(params, batch) -> scalar`; any JAX model. It is given the parameters with the quantized ones rounded.
        With `has_state`: `loss(params, model_state, batch) -> (scalar, new model_state)`.
      optimizer: any optax transformation, whose transfer class is then found by probing it; or a
        `qat.optimizers.Optimizer`, which takes its learning rate from `Moment`.
      estimator: a call such as 'dsq(k=6.5)', see `qat.slopes`; or a slope of your own, a function of that form; or a
        `qat.estimators.Estimator`, which has its bits.
      bits: of the quantizer: an integer, or 'ternary' or 'e2m1', or a function from a weight's path to one of these.
      quantized: the path of a leaf of the parameters, such as 'Dense_0/kernel' -> whether it is quantized. None: none
        is; such a run is in full precision and has no twins.
      twins: names, see `qat.lockstep.twins`.
      ranges: a name of `qat.ranges`, a rule (weights -> R), or a mapping from the path of every quantized weight to
        either.
      range_policy: what becomes of a range in training, see `qat.policies`: 'fixed', 'dynamic', 'learned', 'learned_u'.
      clip_rule: what the estimator does outside the range, see `qat.clipping`: 'clip', 'pass', 'trust(T=0.5)'; '': its
        own, which is 'clip' but for `mad`.
      placement: 'gradient': the slope multiplies the gradient; 'update': it multiplies the optimizer's output.
      has_state: whether the model has a state besides its parameters, such as batch norm's statistics.
      axis_name: of the devices that share a batch, where `step` runs under `jax.pmap`; None: one device.
      activations: rounds the inputs of the layers whose kernels are quantized, as `qat.estimator('ste', 'int8')` does;
        the model is then one of flax.linen, see `qat.activations`. None: nothing.
      kernel_learning_rate_factor, start, clip_norm, pull_back, track_change_points: see `qat.lockstep.spec.Spec`.

    Random keys, masks and whatever else the loss wants travel in the batch, so that all runs see the same.

    Raises:
      ValueError: an argument that names nothing, or makes no sense. What depends on the parameters (no weight matches
        `quantized`, a twin without a recipe, a loss that is not a scalar) is said by `init` or the first `step`.
    """

    def __init__(
        self,
        loss: Callable,
        optimizer: optax.GradientTransformation | Optimizer,
        estimator: str | Callable | Estimator,
        bits: int | str | Callable[[str], int | str] | None = None,
        *,
        quantized: Callable[[str], bool] | None,
        twins: tuple[str, ...] = ('ste', 'naive_ste', 'jitter', 'self'),
        ranges: str | RangeRule | Mapping[str, str | RangeRule] = 'max_abs',
        range_policy: str = 'fixed',
        clip_rule: str = '',
        placement: str = 'gradient',
        has_state: bool = False,
        axis_name: str | None = None,
        kernel_learning_rate_factor: float = 1.0,
        start: Callable | None = None,
        clip_norm: float | None = None,
        pull_back: Estimator | None = None,
        activations: Estimator | None = None,
        track_change_points: bool = True,
    ):
        checks.arguments(optimizer, quantized, twins)
        self.loss = loss if has_state else _without_state(loss)
        self.axis_name = axis_name
        self.spec = Spec(
            optimizer=optimizer if isinstance(optimizer, Optimizer) else Probed(optimizer),
            quantized=quantized,
            estimator=estimators(estimator, bits, clip_rule),
            range_rule=range_rules(ranges),
            range_policy=policy(range_policy),
            placement=placement,
            twins=tuple(twins),
            kernel_learning_rate_factor=kernel_learning_rate_factor,
            start=start,
            clip_norm=clip_norm,
            pull_back=pull_back,
            activations=activations,
            track_change_points=track_change_points,
        )
        self._plans: dict[tuple, Plan] = {}

    def plan(self, params) -> Plan:
        """What every run does, for a parameter tree of arrays or shapes; worked out once for a structure.

        Raises:
          ValueError: no weight is quantized, a leaf that no gradient exists of, or a twin that has no recipe.
        """
        params = ranged.of_model(params)
        weights.check_floats(params)
        leaves, structure = jax.tree.flatten(params)
        key = structure, tuple((leaf.shape, leaf.dtype) for leaf in leaves)
        if key not in self._plans:
            self._plans[key] = make(self.spec, params)
        return self._plans[key]

    def init(self, params, model_state=None) -> State:
        """The state before the first step: every run from the same weights, or M of them.

        Args:
          params: the initial parameters, a tree; the quantized leaves are float32.
          model_state: with `has_state`, what goes into the loss besides.
        """
        self.plan(params)  # outside of the compiled part, so that what it refuses has a short traceback
        state = jax.jit(self._init)(params, {} if model_state is None else model_state)
        checks.ranges(ranged.scales(state.runs[REFERENCE].params, state.ranges))
        return state

    def _init(self, params, model_state) -> State:
        plan = self.plan(params)
        params, ranges = ranged.begin(plan, params)
        start = weights.get(params, plan.paths)
        if self.spec.start is not None:
            start = {layer: self.spec.start(weight, ranges[layer]) for layer, weight in start.items()}
        runs = {}
        for name, run in plan.runs.items():
            mapped = {layer: run.maps[layer](weight, ranges[layer]) for layer, weight in start.items()}
            # No two runs share a buffer, so that all may be donated.
            own = jax.tree.map(jnp.copy, (weights.replace(params, plan.paths, mapped), model_state))
            opt_state = self.spec.optimizer.build(0.0).init(updating.read(plan, run, own[0], ranges))
            runs[name] = RunState(*own, opt_state, jnp.float32(0))
        tracking = self._tracker(plan).begin(self._followed(plan, runs, ranges))
        return State(jnp.int32(0), ranges, runs, tracking)

    def restart(self, state: State, reference: RunState) -> State:
        """The state of runs that all go on from this one, as copies of it, with nothing tracked so far."""
        plan = self.plan(reference.params)
        runs = dict.fromkeys(plan.runs, reference)
        ranges = ranged.restarted(plan, reference.params, state.ranges)
        tracking = jax.jit(self._tracker(plan).begin)(self._followed(plan, runs, ranges))
        return state.replace(runs=runs, ranges=ranges, tracking=tracking)

    def step(
        self,
        state: State,
        batch,
        moment: Moment = Moment(),  # noqa: B008
        *,
        reshuffled=None,
    ) -> tuple[State, dict[str, jax.Array]]:
        """One update of every run on a batch (this device's share of it, under `axis_name`).

        Args:
          state: of `init` or of the step before.
          batch: whatever the loss takes.
          moment: the learning rate and the progress, where they change with time.
          reshuffled: the batch of another order of the same data, which the twin `reshuffle` trains on.

        Returns:
          The new state, and the loss of the reference and of every twin, scalars by name.
        """
        checks.one_state(state)
        plan = self.plan(state.runs[REFERENCE].params)
        checks.reshuffled(plan, reshuffled)
        updated = {
            name: self._update(
                plan, run, state.runs[name], state.ranges, moment, reshuffled if run.reshuffled else batch
            )
            for name, run in plan.runs.items()
        }
        # Tracking reads the weights as they are stored: what reads them must not change how they are computed.
        runs = jax.lax.optimization_barrier({name: run for name, (run, _) in updated.items()})
        tracking = self.track(state, runs)
        losses = {name: loss for name, (_, loss) in updated.items()}
        losses = {REFERENCE: losses[REFERENCE], **{name: losses[run] for name, run in plan.computed_by.items()}}
        return state.replace(step=state.step + 1, runs=runs, tracking=tracking), losses

    def track(self, before: State, after: Mapping[str, RunState]) -> Tracking:
        """The tracking one update later, from the state before it and the runs after it."""
        plan = self.plan(before.runs[REFERENCE].params)
        followed = (self._followed(plan, runs, before.ranges) for runs in (before.runs, after))
        with jax.named_scope('tracking'):
            return self._tracker(plan).advance(before.tracking, *followed, before.ranges, before.step + 1)

    def quantized(self, name: str, state: State, progress: jax.Array | float = 0.0):
        """The parameters of a run as its model reads them, the quantized ones rounded."""
        plan = self.plan(state.runs[REFERENCE].params)
        return ranged.read(plan, plan.runs[name], state.runs[name].params, state.ranges, progress)

    def reading(self, name: str, state: State):
        """A context in which a Flax model reads its inputs as it does in this run: rounded, where activations are."""
        plan = self.plan(state.runs[REFERENCE].params)
        return inputs_rounded(plan.runs[name].activations, plan.paths.values())

    def evaluate(self, examine: Callable, state: State, batch: Mapping) -> dict:
        """Sums over the examples of a validation batch, see `qat.lockstep.evaluation.compare`.

        Args:
          examine: (params, model_state, batch) -> `qat.lockstep.evaluation.Examined`.
          state: of the runs.
          batch: with a 'mask', (examples, ...) bool, False for padding.
        """
        plan, examined = self.plan(state.runs[REFERENCE].params), {}
        for name, run in state.runs.items():
            with all_inputs_rounded(plan.runs[name].activations, plan.paths.values()):
                examined[name] = examine(self.quantized(name, state), run.model_state, batch)
        return evaluation.compare(examined, batch['mask'])

    def measure(self, state: State) -> dict[str, dict[str, dict[str, jax.Array]]]:
        """By computed twin and layer: the sums that `qat.trajectory.summarize` turns into metrics."""
        plan = self.plan(state.runs[REFERENCE].params)
        followed = self._followed(plan, state.runs, state.ranges)
        return self._tracker(plan).measure(state.tracking, followed, state.ranges, state.step)

    def summary(self, state: State) -> dict[str, dict[str, float | int | list[float] | None]]:
        """By listed twin: the metrics of its trajectory so far, on the host; None for what does not exist."""
        return _summarized(*self._measured(state))

    def cautions(self, state: State) -> list[str]:
        """What makes a recipe doubtful in this setting, as far as the state shows it; none where nothing does."""
        plan, measured = self._measured(state)
        return cautions(plan, self.spec.optimizer, state, measured)

    def verdict(self, state: State) -> str:
        """Whether STE is interchangeable with the estimator in this setting, and why, in words."""
        plan, measured = self._measured(state)
        if not plan.paths:
            return FULL_PRECISION
        distinct, transfer = dict.fromkeys(plan.estimators.values()), plan.transfer
        names = ' and '.join(dict.fromkeys(map(str, distinct)))
        read = in_words(self.spec.activations)
        subject = f'{names} under {self.spec.optimizer}{read} (class {transfer.transfer_class}, {transfer.reason})'
        reason = '; '.join(dict.fromkeys(why for estimator in distinct for why in obstacles(estimator, transfer)))
        said = cautions(plan, self.spec.optimizer, state, measured)
        same = all(estimator == ste_with_clip_of(estimator) for estimator in distinct)
        return verdict(
            Evidence(
                subject,
                [_summarized(plan, measured)],
                reason=reason,
                cautions=said,
                adjusted=transfer.adjusts,
                is_ste=same,
            )
        )

    def _measured(self, state: State) -> tuple[Plan, dict]:
        checks.one_state(state)
        return self.plan(state.runs[REFERENCE].params), jax.device_get(jax.jit(self.measure)(state))

    def _update(self, plan: Plan, run: Run, before: RunState, ranges, moment: Moment, batch) -> tuple:
        def loss_of(params):
            rounded = ranged.read(plan, run, params, ranges, moment.progress)
            with all_inputs_rounded(run.activations, plan.paths.values(), moment.progress):
                return checks.returned(self.loss(rounded, before.model_state, batch))

        results = jax.value_and_grad(loss_of, has_aux=True)(before.params)
        (loss, model_state), gradients = mean_over_devices(results, self.axis_name)
        ranges = ranged.current(plan, before.params, ranges)
        with jax.named_scope('optimizer'):
            gradients = updating.clipped(plan, run, self.spec.clip_norm, gradients, before.params, ranges)
            optimizer = self.spec.optimizer.build(run.learning_rate_factor * moment.learning_rate)
            read = updating.read(plan, run, before.params, ranges)
            updates, opt_state = optimizer.update(gradients, before.opt_state, read)
            updates = updating.adjusted(plan, run, updates, before.params, ranges, moment.progress)
            params = optax.apply_updates(before.params, updates)
        sum_of_losses = jnp.where(moment.first, 0, before.loss) + jnp.asarray(loss, jnp.float32)
        return RunState(params, model_state, opt_state, sum_of_losses), loss

    def _tracker(self, plan: Plan) -> Tracker:
        quantizers = {layer: estimator.quantizer for layer, estimator in plan.estimators.items()}
        first_ranges = {layer: ranged.first(plan, layer) for layer in plan.paths}
        maps = {name: run.maps for name, run in plan.runs.items() if name != REFERENCE}
        return Tracker(quantizers, REFERENCE, maps, first_ranges, self.spec.track_change_points and bool(maps))

    def _followed(self, plan: Plan, runs: Mapping[str, RunState], ranges: weights.Weights) -> dict[str, Followed]:
        return {
            name: Followed(weights.get(run.params, plan.paths), ranged.current(plan, run.params, ranges))
            for name, run in runs.items()
        }


def _summarized(plan: Plan, measured: Mapping) -> dict[str, dict[str, float | int | list[float] | None]]:
    """By listed twin: the metrics that the sums of `Lockstep.measure`, on the host, amount to."""
    return {name: trajectory.summarize(measured[run].values()) for name, run in plan.computed_by.items()}


def _without_state(loss: Callable) -> Callable:
    def with_state(params, model_state, batch):
        return loss(params, batch), model_state

    return with_state

"""The reference run and its twins in lockstep: build, step, evaluate and measure, as pure functions.

All runs see the same batch in the same compiled step. A `Lockstep` is static and a `State` is data;
the trainer puts both on devices.
"""

import dataclasses
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from flax.traverse_util import flatten_dict, unflatten_dict

from experiments.setup.settings import AXIS, Settings
from qat.equivalence import WeightMap
from qat.estimators import Estimator, ste_with_clip_of
from qat.lockstep.tracking import Kernels, Tracker, Tracking
from qat.lockstep.twins import Twin, computed_by

REFERENCE = 'reference'
_PIXEL_MEAN = (123.675, 116.28, 103.53)  # of ImageNet, by channel, for uint8 images
_PIXEL_DEVIATION = (58.395, 57.12, 57.375)


@struct.dataclass
class RunState:
    """One run.

    Attributes:
      params: its weights.
      batch_stats: of its batch norms; empty for a model without.
      opt_state: its optimizer's.
      loss: its training losses, summed since the last record.
    """

    params: dict
    batch_stats: dict
    opt_state: optax.OptState
    loss: jax.Array


@struct.dataclass
class State:
    """Everything that a checkpoint holds.

    Attributes:
      step: updates made so far, int32.
      ranges: R of every quantized kernel, shared by all runs.
      runs: by name, 'reference' and the twins that are computed.
      tracking: what is remembered of their trajectories.
    """

    step: jax.Array
    ranges: dict
    runs: dict[str, RunState]
    tracking: Tracking


@struct.dataclass
class Moment:
    """What a step takes besides state and batch: one compiled step serves every schedule and length.

    Attributes:
      learning_rate: of the reference, float32.
      progress: the fraction of the run that is done, float32.
      first: whether it is the first step since losses were recorded.
    """

    learning_rate: jax.Array
    progress: jax.Array
    first: jax.Array


@dataclasses.dataclass(frozen=True)
class Run:
    """How one run is updated.

    Attributes:
      model: with the run's estimator in its layers, or STE where the slope multiplies the output.
      optimizer: the reference's learning rate -> the run's optimizer.
      output_slope: the estimator that multiplies the optimizer's output, under placement 'update'.
      kernel_factor: on the learning rate of the quantized kernels.
    """

    model: nn.Module
    optimizer: Callable[[jax.Array], optax.GradientTransformation]
    output_slope: Estimator | None
    kernel_factor: float


def map_kernels(function: Callable, ranges: dict, params: dict, *others: dict) -> dict:
    """`params` with every quantized kernel k replaced by function(k, R, *the same leaf of others)."""
    flat_ranges = flatten_dict(ranges)
    trees = [flatten_dict(tree) for tree in (params, *others)]
    replaced = {
        path: function(trees[0][path], range, *(tree[path] for tree in trees[1:]))
        for path, range in flat_ranges.items()
    }
    return unflatten_dict({**trees[0], **replaced})


def kernels(ranges: dict, params: dict) -> dict[str, jax.Array]:
    """The quantized kernels by layer: {'conv1': kernel, ...}."""
    flat = flatten_dict(params)
    return {'/'.join(path[:-1]): flat[path] for path in flatten_dict(ranges)}


class Lockstep:
    """A reference run and its twins, ready to be initialised, stepped, evaluated and measured."""

    def __init__(self, settings: Settings, classes: int):
        self.twins = settings.twins
        self.computed_by = computed_by(settings.twins)
        specs = {REFERENCE: Twin(settings.estimator)}
        specs |= {name: settings.twins[name] for name in dict.fromkeys(self.computed_by.values())}
        self._runs = {name: self._run(settings, spec, classes) for name, spec in specs.items()}
        self._maps = {
            name: WeightMap(settings.estimator) if spec.recipe.remaps_initialization else _no_map
            for name, spec in specs.items()
        }
        maps = {name: weight_map for name, weight_map in self._maps.items() if name != REFERENCE}
        self.tracker = Tracker(settings.quantizer, REFERENCE, maps, settings.config.track_change_points)

    def _run(self, settings: Settings, spec: Twin, classes: int) -> Run:
        update = settings.config.placement == 'update'
        return Run(
            model=settings.model(ste_with_clip_of(spec.estimator) if update else spec.estimator, classes),
            optimizer=lambda learning_rate: settings.optimizer.build(spec.learning_rate_factor * learning_rate),
            output_slope=spec.estimator if update else None,
            kernel_factor=settings.config.kernel_learning_rate_factor * spec.recipe.learning_rate_factor,
        )

    def init(self, key: jax.Array, image_shape: tuple[int, ...], given: dict | None = None) -> State:
        """The state before the first step: every run from the same weights, or M of them.

        Args:
          key: of the random initial weights.
          image_shape: (height, width, channels).
          given: 'params' and 'batch_stats' to start from instead of random ones.
        """
        model, image = self._runs[REFERENCE].model, jnp.zeros((1, *image_shape))
        variables = {'batch_stats': {}, **model.init(key, image, train=False)}
        if given is not None:
            # The ranges follow from the given weights, as they do from random ones.
            _, ranges = model.apply(given, image, train=False, mutable=['ranges', 'progress'])
            variables = {**given, **ranges}
        ranges, runs = variables['ranges'], {}
        for name, run in self._runs.items():
            start = map_kernels(self._maps[name], ranges, variables['params'])
            start = jax.tree.map(jnp.copy, start)  # no two runs share a buffer, so that all may be donated
            statistics = jax.tree.map(jnp.copy, variables['batch_stats'])
            runs[name] = RunState(start, statistics, run.optimizer(0.0).init(start), jnp.float32(0))
        return State(jnp.int32(0), ranges, runs, self.tracker.begin(*self._followed(ranges, runs)))

    def _followed(self, ranges: dict, runs: dict[str, RunState]) -> tuple[dict[str, Kernels], Kernels]:
        """The quantized kernels by run and layer, and their ranges by layer."""
        return {name: kernels(ranges, run.params) for name, run in runs.items()}, kernels(ranges, ranges)

    def step(self, state: State, moment: Moment, images: jax.Array, labels: jax.Array) -> State:
        """One update of every run on this device's share of a batch; call it under the axis AXIS."""
        images = _normalized(images)
        runs = {
            name: self._update(run, state.runs[name], state.ranges, moment, images, labels)
            for name, run in self._runs.items()
        }
        # Tracking reads the weights as they are stored: what reads them must not change how they are computed.
        runs = jax.lax.optimization_barrier(runs)
        tracking = self.track(state.tracking, state.ranges, state.runs, runs)
        return state.replace(step=state.step + 1, runs=runs, tracking=tracking)

    def track(self, tracking: Tracking, ranges: dict, before: dict, after: dict) -> Tracking:
        """The tracking one update later, from the runs before and after it."""
        kernels_before, _ = self._followed(ranges, before)
        return self.tracker.advance(tracking, kernels_before, *self._followed(ranges, after))

    def _update(self, run: Run, before: RunState, ranges: dict, moment: Moment, images, labels) -> RunState:
        def loss_of(params):
            variables = _variables(before.replace(params=params), ranges, moment.progress)
            logits, updated = run.model.apply(variables, images, train=True, mutable=['batch_stats'])
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return losses.mean(), updated.get('batch_stats', {})

        results = jax.value_and_grad(loss_of, has_aux=True)(before.params)
        (loss, statistics), gradients = _mean_over_devices(results)
        optimizer = run.optimizer(moment.learning_rate)
        updates, opt_state = optimizer.update(gradients, before.opt_state, before.params)

        def adjust(update, range, kernel):
            if run.output_slope is not None:
                update = update * run.output_slope.at(kernel, range, progress=moment.progress)
            return update * run.kernel_factor

        updates = map_kernels(adjust, ranges, updates, before.params)
        losses = jnp.where(moment.first, 0, before.loss) + loss
        return RunState(optax.apply_updates(before.params, updates), statistics, opt_state, losses)

    def evaluate(self, state: State, images: jax.Array, labels: jax.Array, mask: jax.Array) -> dict:
        """Sums over this device's share of a validation batch, over all devices; call it under AXIS.

        Args:
          mask: (batch,) 1 for an example, 0 for padding.

        Returns:
          'examples'; 'loss' and 'correct' by run; 'agreeing', 'both_wrong' and 'both_wrong_agreeing' by twin.
        """
        sums = {key: {} for key in ('loss', 'correct', 'agreeing', 'both_wrong', 'both_wrong_agreeing')}
        sums['examples'] = jnp.sum(mask)
        predictions, images = {}, _normalized(images)
        for name, run in self._runs.items():
            logits = run.model.apply(_variables(state.runs[name], state.ranges), images, train=False)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            predictions[name] = jnp.argmax(logits, axis=-1)
            sums['loss'][name] = jnp.sum(jnp.where(mask, losses, 0))
            sums['correct'][name] = jnp.sum(mask & (predictions[name] == labels))
        for name in predictions:
            if name != REFERENCE:
                agreeing = mask & (predictions[name] == predictions[REFERENCE])
                wrong = mask & (predictions[name] != labels) & (predictions[REFERENCE] != labels)
                sums['agreeing'][name] = jnp.sum(agreeing)
                sums['both_wrong'][name] = jnp.sum(wrong)
                sums['both_wrong_agreeing'][name] = jnp.sum(agreeing & wrong)
        return jax.lax.psum(sums, AXIS)

    def measure(self, state: State) -> dict[str, dict[str, dict[str, jax.Array]]]:
        """By computed twin and layer: the sums that `trajectory.summarize` turns into metrics."""
        return self.tracker.measure(state.tracking, *self._followed(state.ranges, state.runs))


def _mean_over_devices(tree):
    """The mean under AXIS; XLA's CPU backend would copy even what a single device has by itself."""
    return tree if jax.lax.axis_size(AXIS) == 1 else jax.lax.pmean(tree, AXIS)


def _variables(run: RunState, ranges: dict, progress: jax.Array | float = 0.0) -> dict:
    """What a run's model reads; only backward passes depend on the progress."""
    of_layers = jax.tree.map(lambda _: progress, ranges)
    return {'params': run.params, 'batch_stats': run.batch_stats, 'ranges': ranges, 'progress': of_layers}


def _normalized(images: jax.Array) -> jax.Array:
    """uint8 colour images travel to the device as they are and are normalised there, by channel."""
    if images.dtype != jnp.uint8:
        return images
    return (images.astype(jnp.float32) - jnp.array(_PIXEL_MEAN)) / jnp.array(_PIXEL_DEVIATION)


def _no_map(weights: jax.Array, range: jax.Array) -> jax.Array:
    """The identity, for twins that start where the reference starts."""
    return weights

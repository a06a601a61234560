"""Every twin's weights compared with the reference's, run by run and layer by layer, on the device.

Weights here are quantized weights by layer, arrays of any shape; ranges are their R, by layer, scalars or shaped to
broadcast against them.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct

from qat import trajectory
from qat.lockstep import blocks
from qat.quantizers import Quantizer
from qat.weights import Weights


@struct.dataclass
class Tracking:
    """What is remembered of the trajectories. Where change points are not tracked, there are only paths.

    Attributes:
      histories: by run, of the weights of all layers, packed as in `blocks`.
      paths: by twin and layer.
      lags: by twin, uint32, packed like the histories.
      since: (blocks,) int32, the first step that the lags of a block do not count yet: the last that changed it.
    """

    histories: dict[str, trajectory.History]
    paths: dict[str, dict[str, trajectory.Path]]
    lags: dict[str, jax.Array]
    since: jax.Array | None = None


@dataclasses.dataclass(frozen=True)
class Tracker:
    """Follows the quantized weights of all runs.

    Attributes:
      quantizers: give the codes, by layer.
      reference: the name of the run that the others are compared with.
      maps: by twin and layer, what the reference's weights go through before they are compared: (w, R) -> w.
      change_points: whether they are tracked; without them only weights and codes are compared.
    """

    quantizers: Mapping[str, Quantizer]
    reference: str
    maps: Mapping[str, Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]]
    change_points: bool

    def begin(self, weights: dict[str, Weights], ranges: Weights) -> Tracking:
        """Before the first step; `weights` by run and layer."""
        paths = {twin: jax.tree.map(trajectory.begin_path, weights[twin]) for twin in self.maps}
        if not self.change_points:
            return Tracking({}, paths, {})
        codes = {run: self._packed_codes(of_run, ranges) for run, of_run in weights.items()}
        histories = {run: trajectory.begin(code) for run, code in codes.items()}
        lags = {twin: jnp.zeros(codes[twin].shape, jnp.uint32) for twin in self.maps}
        return Tracking(histories, paths, lags, jnp.zeros(len(codes[self.reference]), jnp.int32))

    def advance(
        self,
        tracking: Tracking,
        before: dict[str, Weights],
        after: dict[str, Weights],
        ranges: Weights,
        step: jax.Array,
    ) -> Tracking:
        """One update later, the one that makes it `step` of them."""
        paths = {
            twin: {
                layer: trajectory.advance_path(path, before[twin][layer], after[twin][layer], ranges[layer])
                for layer, path in layers.items()
            }
            for twin, layers in tracking.paths.items()
        }
        if not self.change_points:
            return tracking.replace(paths=paths)
        codes = {run: self._packed_codes(after[run], ranges) for run in tracking.histories}
        differing = (blocks.differing(codes[run], history.code) for run, history in tracking.histories.items())
        changed = functools.reduce(operator.or_, differing)
        state = tracking.histories, tracking.lags, tracking.since
        histories, lags, since = blocks.update(changed, self._advance_blocks, state, codes, step)
        return Tracking(histories, paths, lags, since)

    def _advance_blocks(self, state, codes, step) -> tuple:
        """Histories, lags and `since` of any number of blocks, one update later."""
        histories, lags, since = state
        lags = self._lags(histories, lags, step - since)
        histories = {run: trajectory.advance(history, codes[run]) for run, history in histories.items()}
        return histories, lags, jnp.full_like(since, step)

    def _lags(self, histories, lags, steps: jax.Array) -> dict[str, jax.Array]:
        """The lags of blocks after so many more steps without a change, (blocks,)."""
        reference = histories[self.reference]
        return {
            twin: trajectory.advance_lag(lag, reference, histories[twin], steps[:, None]) for twin, lag in lags.items()
        }

    def measure(
        self, tracking: Tracking, weights: dict[str, Weights], ranges: Weights, step: jax.Array
    ) -> dict[str, dict[str, dict[str, jax.Array]]]:
        """By twin and layer, after so many steps: the sums that `trajectory.summarize` turns into metrics."""
        sums = {
            twin: {layer: self._measure_layer(path, weights, ranges, twin, layer) for layer, path in layers.items()}
            for twin, layers in tracking.paths.items()
        }
        if self.change_points:
            lags = self._lags(tracking.histories, tracking.lags, step + 1 - tracking.since)
            shapes = {layer: weights[self.reference][layer].shape for layer in self.quantizers}
            for layer, (histories, lag) in blocks.unpack((tracking.histories, lags), shapes).items():
                for twin in self.maps:
                    pair = histories[self.reference], histories[twin]
                    sums[twin][layer] |= trajectory.measure_histories(*pair, lag[twin])
        return sums

    def _measure_layer(self, path, weights, ranges, twin: str, layer: str) -> dict[str, jax.Array]:
        quantizer, R = self.quantizers[layer], ranges[layer]
        weights = {run: weights[run][layer] for run in (self.reference, twin)}
        codes = {run: quantizer.codes(weight, R) for run, weight in weights.items()}
        mapped = self.maps[twin][layer](weights[self.reference], R)
        sums = trajectory.measure_weights(mapped, codes[self.reference], weights[twin], codes[twin], path, R)
        sums |= trajectory.measure_codes(codes[self.reference], codes[twin], quantizer.intervals + 1)
        start_codes = quantizer.codes(path.start, R)
        return sums | trajectory.measure_movement(start_codes, codes[twin], path, quantizer.step_size(1.0))

    def _packed_codes(self, weights: Weights, ranges: Weights) -> jax.Array:
        """The codes of one run's weights, uint8."""
        codes = (quantizer.codes(weights[layer], ranges[layer]) for layer, quantizer in self.quantizers.items())
        return blocks.pack(code.astype(jnp.uint8) for code in codes)

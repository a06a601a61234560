"""Every twin's weights compared with the reference's, run by run and layer by layer, on the device.

Weights here are quantized weights by layer, arrays of any shape; ranges are their R, by layer, scalars or shaped to
broadcast against them.
"""

import dataclasses
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from flax import struct

from qat import trajectory
from qat.quantizers import UniformQuantizer
from qat.weights import Weights


@struct.dataclass
class Tracking:
    """What is remembered of the trajectories.

    Attributes:
      histories: by run and layer; empty where change points are not tracked.
      paths: by twin and layer.
      lags: by twin and layer, uint32 shaped like the weight; empty like the histories.
    """

    histories: dict[str, dict[str, trajectory.History]]
    paths: dict[str, dict[str, trajectory.Path]]
    lags: dict[str, dict[str, jax.Array]]


@dataclasses.dataclass(frozen=True)
class Tracker:
    """Follows the quantized weights of all runs.

    Attributes:
      quantizers: give the codes, by layer.
      reference: the name of the run that the others are compared with.
      maps: by twin and layer, what the reference's weights go through before they are compared: (w, R) -> w.
      change_points: whether they are tracked; without them only weights and codes are compared.
    """

    quantizers: Mapping[str, UniformQuantizer]
    reference: str
    maps: Mapping[str, Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]]
    change_points: bool

    def begin(self, weights: dict[str, Weights], ranges: Weights) -> Tracking:
        """Before the first step; `weights` by run and layer."""
        paths = {twin: jax.tree.map(trajectory.begin_path, weights[twin]) for twin in self.maps}
        if not self.change_points:
            return Tracking({}, paths, {})
        histories = {
            run: jax.tree.map(trajectory.begin, self._codes(of_run, ranges)) for run, of_run in weights.items()
        }
        lags = {twin: jax.tree.map(lambda w: jnp.zeros(w.shape, jnp.uint32), weights[twin]) for twin in self.maps}
        return Tracking(histories, paths, lags)

    def advance(
        self, tracking: Tracking, before: dict[str, Weights], after: dict[str, Weights], ranges: Weights
    ) -> Tracking:
        """One update later."""
        paths = {
            twin: {
                layer: trajectory.advance_path(path, before[twin][layer], after[twin][layer], ranges[layer])
                for layer, path in layers.items()
            }
            for twin, layers in tracking.paths.items()
        }
        codes = {run: self._codes(after[run], ranges) for run in tracking.histories}
        histories = {
            run: {layer: trajectory.advance(history, codes[run][layer]) for layer, history in layers.items()}
            for run, layers in tracking.histories.items()
        }
        lags = {
            twin: {
                layer: trajectory.advance_lag(lag, histories[self.reference][layer], histories[twin][layer])
                for layer, lag in layers.items()
            }
            for twin, layers in tracking.lags.items()
        }
        return Tracking(histories, paths, lags)

    def measure(
        self, tracking: Tracking, weights: dict[str, Weights], ranges: Weights
    ) -> dict[str, dict[str, dict[str, jax.Array]]]:
        """By twin and layer: the sums that `trajectory.summarize` turns into metrics."""
        return {
            twin: {layer: self._measure_layer(tracking, weights, ranges, twin, layer) for layer in ranges}
            for twin in self.maps
        }

    def _measure_layer(self, tracking, weights, ranges, twin: str, layer: str) -> dict[str, jax.Array]:
        quantizer, R, path = self.quantizers[layer], ranges[layer], tracking.paths[twin][layer]
        weights = {run: weights[run][layer] for run in (self.reference, twin)}
        codes = {run: quantizer.codes(weight, R) for run, weight in weights.items()}
        mapped = self.maps[twin][layer](weights[self.reference], R)
        sums = trajectory.measure_weights(mapped, codes[self.reference], weights[twin], codes[twin], path, R)
        sums |= trajectory.measure_movement(quantizer.codes(path.start, R), codes[twin], path, quantizer.step_size(1.0))
        if self.change_points:
            histories = tracking.histories[self.reference][layer], tracking.histories[twin][layer]
            sums |= trajectory.measure_histories(*histories, tracking.lags[twin][layer])
        return sums

    def _codes(self, weights: Weights, ranges: Weights) -> Weights:
        return {layer: self.quantizers[layer].codes(weight, ranges[layer]) for layer, weight in weights.items()}

"""Every twin's weights compared with the reference's, run by run and layer by layer, on the device.

Weights here are quantized weights by layer, arrays of any shape; ranges are their R, by layer, scalars or shaped to
broadcast against them. Codes are those of the range of a run at the time; distances are in units of the R that a layer
began with.
"""

import dataclasses
import functools
import operator
from collections.abc import Callable, Mapping
from typing import NamedTuple

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


class Followed(NamedTuple):
    """One run now.

    Attributes:
      weights: by layer.
      ranges: in which they are rounded now, by layer.
    """

    weights: Weights
    ranges: Weights


@dataclasses.dataclass(frozen=True)
class Tracker:
    """Follows the quantized weights of all runs.

    Attributes:
      quantizers: give the codes, by layer.
      reference: the name of the run that the others are compared with.
      maps: by twin and layer, what the reference's weights go through before they are compared: (w, R) -> w.
      first_ranges: by layer, what weights are rounded in before the first step: (v(0), the unit of distances) -> R.
      change_points: whether they are tracked; without them only weights and codes are compared.
    """

    quantizers: Mapping[str, Quantizer]
    reference: str
    maps: Mapping[str, Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]]
    first_ranges: Mapping[str, Callable[[jax.Array, jax.Array], jax.Array]]
    change_points: bool

    def begin(self, runs: dict[str, Followed]) -> Tracking:
        """Before the first step; by run."""
        paths = {twin: jax.tree.map(trajectory.begin_path, runs[twin].weights) for twin in self.maps}
        if not self.change_points:
            return Tracking({}, paths, {})
        codes = {run: self._packed_codes(followed) for run, followed in runs.items()}
        histories = {run: trajectory.begin(code) for run, code in codes.items()}
        lags = {twin: jnp.zeros(codes[twin].shape, jnp.uint32) for twin in self.maps}
        return Tracking(histories, paths, lags, jnp.zeros(len(codes[self.reference]), jnp.int32))

    def advance(
        self,
        tracking: Tracking,
        before: dict[str, Followed],
        after: dict[str, Followed],
        units: Weights,
        step: jax.Array,
    ) -> Tracking:
        """One update later, the one that makes it `step` of them; `units` by layer, the R that distances are in."""
        paths = {
            twin: {
                layer: trajectory.advance_path(
                    path, before[twin].weights[layer], after[twin].weights[layer], units[layer]
                )
                for layer, path in layers.items()
            }
            for twin, layers in tracking.paths.items()
        }
        if not self.change_points:
            return tracking.replace(paths=paths)
        codes = {run: self._packed_codes(after[run]) for run in tracking.histories}
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
        self, tracking: Tracking, runs: dict[str, Followed], units: Weights, step: jax.Array
    ) -> dict[str, dict[str, dict[str, jax.Array]]]:
        """By twin and layer, after so many steps: the sums that `trajectory.summarize` turns into metrics."""
        sums = {
            twin: {layer: self._measure_layer(path, runs, units[layer], twin, layer) for layer, path in layers.items()}
            for twin, layers in tracking.paths.items()
        }
        if self.change_points:
            lags = self._lags(tracking.histories, tracking.lags, step + 1 - tracking.since)
            shapes = {layer: runs[self.reference].weights[layer].shape for layer in self.quantizers}
            for layer, (histories, lag) in blocks.unpack((tracking.histories, lags), shapes).items():
                for twin in self.maps:
                    pair = histories[self.reference], histories[twin]
                    sums[twin][layer] |= trajectory.measure_histories(*pair, lag[twin])
        return sums

    def _measure_layer(self, path, runs, unit, twin: str, layer: str) -> dict[str, jax.Array]:
        quantizer = self.quantizers[layer]
        weights = {run: runs[run].weights[layer] for run in (self.reference, twin)}
        codes = {run: quantizer.codes(weight, runs[run].ranges[layer]) for run, weight in weights.items()}
        mapped = self.maps[twin][layer](weights[self.reference], runs[self.reference].ranges[layer])
        sums = trajectory.measure_weights(mapped, codes[self.reference], weights[twin], codes[twin], path, unit)
        sums |= trajectory.measure_codes(codes[self.reference], codes[twin], quantizer.intervals + 1)
        start_codes = quantizer.codes(path.start, self.first_ranges[layer](path.start, unit))
        return sums | trajectory.measure_movement(start_codes, codes[twin], path, quantizer.step_size(1.0))

    def _packed_codes(self, run: Followed) -> jax.Array:
        """The codes of one run's weights, uint8."""
        codes = (quantizer.codes(run.weights[layer], run.ranges[layer]) for layer, quantizer in self.quantizers.items())
        return blocks.pack(code.astype(jnp.uint8) for code in codes)

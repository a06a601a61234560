"""The ranges in which both series are rounded: a number, or a rule on the first weights of A, which then stays."""

import dataclasses
import math
from collections.abc import Callable, Iterator

import jax
import numpy as np

from experiments.errors import UserError
from qat import calls, ranges

LAST, FIRST = 'last', 'first'  # where the axis of the outputs is: as in Flax, or as in PyTorch
_BY_ITS_SHAPE, _BY_ITS_MEAN, _BY_BLOCKS = 'he_uniform', 'mean_abs', 'block_max_abs'
_BY_CHANNELS = 'channel_max_abs'


@dataclasses.dataclass(frozen=True)
class SharedRange:
    """How R is found.

    Attributes:
      text: a number, or the call of a rule.
      outputs: the axis of a weight's outputs.

    Raises:
      ValueError: it is neither.
    """

    text: str
    outputs: str = LAST

    def __post_init__(self):
        if self._number is None:
            ranges.rule(self.text)
        elif not 0 < self._number < math.inf:
            raise ValueError(f'a range must be a positive number, got {self.text}')

    @property
    def is_of_rows(self) -> bool:
        """Whether no row has a part in the range of a row that is far from it."""
        name = None if self._number is not None else calls.parse(self.text)[0]
        return name == _BY_BLOCKS or (name == _BY_CHANNELS and self.outputs == FIRST)

    def of(self, name: str, weights: np.ndarray) -> np.ndarray:
        """R of weights, float32, which broadcasts against them.

        Raises:
          UserError: it is not positive, or the rule does not fit their shape.
        """
        try:
            return self._checked(name, self._apply(weights))
        except ValueError as error:
            raise UserError(f'--range on {name}: {error}') from None

    def of_parts(self, name: str, shape: tuple[int, ...], parts: Callable[[], Iterator[np.ndarray]]) -> np.ndarray:
        """The same of a layer that is too large to be read at once, and whose range is not `is_of_rows`."""
        if self._number is not None or calls.parse(self.text)[0] == _BY_ITS_SHAPE:
            return self._checked(name, self._apply(jax.ShapeDtypeStruct(shape, np.float32)))
        found = [(self._apply(part), part.size) for part in parts()]
        if calls.parse(self.text)[0] == _BY_ITS_MEAN:
            means, sizes = zip(*found)
            return self._checked(name, np.float32(np.average(means, weights=sizes)))
        return self._checked(name, np.maximum.reduce([R for R, _ in found]))

    def _checked(self, name: str, R: np.ndarray) -> np.ndarray:
        if not ((R > 0) & np.isfinite(R)).all():
            raise UserError(
                f'--range: {self.text} of {name} is {R.min():g} in the first snapshot of A, and must be positive; '
                'give a number, or another rule'
            )
        return R

    @property
    def _number(self) -> float | None:
        try:
            return float(self.text)
        except ValueError:
            return None

    def _apply(self, weights) -> np.ndarray:
        if self._number is not None:
            return np.float32(self._number)
        if self.outputs == LAST:
            return np.asarray(ranges.rule(self.text)(weights))
        if isinstance(weights, jax.ShapeDtypeStruct):
            turned = jax.ShapeDtypeStruct((*weights.shape[1:], weights.shape[0]), weights.dtype)
        else:
            turned = np.moveaxis(weights, 0, -1)
        found = np.asarray(ranges.rule(self.text)(turned))
        return np.moveaxis(found, -1, 0) if found.ndim else found

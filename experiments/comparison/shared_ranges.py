"""The ranges in which both series are rounded: a number, or a rule on the first weights of A, which then stays."""

import dataclasses
import functools
import math
from collections.abc import Iterable

import jax
import numpy as np

from experiments.errors import UserError, blame
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

    def least(self, name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the widths, along every axis, of the smallest region that shares no range with others of a layer.

        Raises:
          UserError: the rule does not fit the shape.
        """
        rule, given = calls.parse(self.text)
        outputs = len(shape) - 1 if self.outputs == LAST else 0
        if rule == _BY_CHANNELS:
            return tuple(1 if axis == outputs else side for axis, side in enumerate(shape))
        if rule != _BY_BLOCKS:
            return shape
        with blame(f'--range on {name}'):
            jax.eval_shape(ranges.rule(self.text), _turned(shape, self.outputs))
        inputs = len(shape) - (2 if self.outputs == LAST else 1)
        return tuple(given.get('size', ranges.BLOCK) if axis == inputs else 1 for axis in range(len(shape)))

    def of(self, name: str, weights: np.ndarray) -> np.ndarray:
        """R of weights, float32, which broadcasts against them.

        Raises:
          UserError: it is not positive, or the rule does not fit their shape.
        """
        with blame(f'--range on {name}'):
            return self._checked(name, self._apply(self.text, weights))

    def of_parts(self, name: str, shape: tuple[int, ...], parts: Iterable[np.ndarray]) -> np.ndarray:
        """The same of a region of `least` widths, which is too large to be read at once.

        Args:
          name: of the layer.
          shape: of the layer.
          parts: of the region; they are read only where the rule needs them.
        """
        rule = calls.parse(self.text)[0]
        if self._number is not None or rule == _BY_ITS_SHAPE:
            return self._checked(name, self._apply(self.text, _turned(shape, self.outputs)))
        if rule == _BY_ITS_MEAN:
            means, sizes = zip(*((self._apply(rule, part), part.size) for part in parts))
            return self._checked(name, np.float32(np.average(means, weights=sizes)))
        ours = _BY_CHANNELS if rule == _BY_BLOCKS else self.text  # the region is one block of every channel in it
        return self._checked(name, functools.reduce(np.maximum, (self._apply(ours, part) for part in parts)))

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

    def _apply(self, rule: str, weights) -> np.ndarray:
        """R of weights, or of a shape that is turned already."""
        if self._number is not None:
            return np.float32(self._number)
        if self.outputs == LAST or isinstance(weights, jax.ShapeDtypeStruct):
            return np.asarray(ranges.rule(rule)(weights))
        found = np.asarray(ranges.rule(rule)(np.moveaxis(weights, 0, -1)))
        return np.moveaxis(found, -1, 0) if found.ndim else found


def _turned(shape: tuple[int, ...], outputs: str) -> jax.ShapeDtypeStruct:
    """A shape with its outputs on the last axis."""
    return jax.ShapeDtypeStruct(shape if outputs == LAST else (*shape[1:], shape[0]), np.float32)

"""What every data set provides: the batches of a process, and the task that reads them."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol, Self

import numpy as np

from experiments.data.task import ModelOf, Task

Batch = dict[str, np.ndarray]  # all arrays have the examples along their first axis


@dataclasses.dataclass(frozen=True)
class Share:
    """The part of every batch that one process gets: part `index` of `count` equal parts."""

    index: int = 0
    count: int = 1

    def of(self, rows: int) -> slice:
        """Returns the rows of this process, out of so many."""
        local = rows // self.count
        return slice(self.index * local, (self.index + 1) * local)


ALONE = Share()


class Batches(Protocol):
    """What a run trains and validates on."""

    @property
    def steps_in_data(self) -> int:
        """The number of whole batches in the training examples."""

    def train(self, start: int, steps_per_epoch: int) -> Iterator[Batch]:
        """Yields this process's share of the batches, from step `start` on, without end.

        The batch of a step does not depend on `start`.
        """

    def reshuffled(self) -> Self:
        """Returns the same data in another order, with other crops, flips or windows; the data are not copied.

        No seed of a config has this order. Validation stays as it is.
        """

    def validation(self) -> Iterator[Batch]:
        """Yields every validation example once, in padded batches of one size; 'mask' is False for padding.

        The mask is (examples,), or of more axes where an example holds several that are predicted, as a text does.
        """

    def task(self, model_of: ModelOf) -> Task:
        """Returns the task of a model on these batches; `model_of` makes the model from the number of classes."""

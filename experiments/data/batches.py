"""What every data set gives: batches of a share, and the task that reads them."""

import dataclasses
from collections.abc import Iterator
from typing import Protocol

import numpy as np

from experiments.data.classification import Classification, ModelOf

Batch = dict[str, np.ndarray]  # of one leading axis, the examples


@dataclasses.dataclass(frozen=True)
class Share:
    """One process's part of every batch: the `index`-th of `count` equal ones."""

    index: int = 0
    count: int = 1

    def of(self, rows: int) -> slice:
        """This process's rows of so many."""
        local = rows // self.count
        return slice(self.index * local, (self.index + 1) * local)


ALONE = Share()


class Batches(Protocol):
    """What a run trains and validates on."""

    @property
    def steps_in_data(self) -> int:
        """Whole batches that the training examples give."""

    def train(self, start: int, steps_per_epoch: int) -> Iterator[Batch]:
        """This process's share of every batch, from step `start` on, without end: the same step, the same batch."""

    def validation(self) -> Iterator[Batch]:
        """Every validation example once, in padded batches of one size; 'mask' says what is real."""

    def task(self, model_of: ModelOf) -> Classification:
        """What a model is trained to do with them; `model_of` makes it from the number of classes."""

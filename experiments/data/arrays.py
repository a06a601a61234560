"""Data sets in memory, as pure functions of (seed, step): the same step gives the same batch, on any restart."""

import dataclasses
import functools
import importlib.util
import itertools
import pathlib
from collections.abc import Iterator
from typing import Self

import numpy as np

from experiments.data import memory
from experiments.data.augmentation import DRAWS
from experiments.data.batches import ALONE, Batch, Share
from experiments.data.classification import Classification
from experiments.data.task import ModelOf
from experiments.data.transforms import PLAIN, Transforms

SPLITS = ('train', 'validation')
_DRAWN = 1  # a fourth number, which permutations do not have


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Attributes:
      images: by split, (n, height, width, channels), float32 or uint8.
      labels: by split, (n,) int32.
      reshuffle: whether every epoch has a new permutation; if not, all epochs have the stored order.
      transforms: what is done to the images on their way to the model.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    reshuffle: bool = True
    transforms: Transforms = PLAIN

    def validated_on(self, most: int) -> Self:
        """Returns the data with at most so many validation examples, evenly spread over all; -1: with all."""
        total = len(self.labels['validation'])
        if not 0 < most < total:
            return self
        rows = np.arange(most) * total // most
        fewer = ({**split, 'validation': split['validation'][rows]} for split in (self.images, self.labels))
        return dataclasses.replace(self, **dict(zip(('images', 'labels'), fewer)))


@dataclasses.dataclass(frozen=True)
class ArrayBatches:
    """Batches of arrays in memory; every batch has only this process's share of its rows.

    The order and the crops are a function of (seed, step, order), the crops of an image also of its row in the whole
    batch: neither depends on the number of processes.

    Attributes:
      order: which of the orders of the same data that a seed has.
    """

    arrays: Arrays
    seed: int
    batch_size: int
    share: Share = ALONE
    order: int = 0

    def task(self, model_of: ModelOf) -> Classification:
        return Classification(model_of(self.classes), self.image_shape, self.arrays.transforms.normalize)

    def reshuffled(self) -> Self:
        return dataclasses.replace(self, order=self.order + 1)

    @property
    def classes(self) -> int:
        return 1 + max(int(labels.max()) for labels in self.arrays.labels.values())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.arrays.images['train'].shape[1:]

    @property
    def steps_in_data(self) -> int:
        return len(self.arrays.labels['train']) // self.batch_size

    def train(self, start: int, steps_per_epoch: int) -> Iterator[Batch]:
        for step in itertools.count(start):
            epoch, index = divmod(step, steps_per_epoch)
            batch = self._permutation(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
            own = self.share.of(self.batch_size)
            images, labels = self.arrays.images['train'][batch[own]], self.arrays.labels['train'][batch[own]]
            images = self.arrays.transforms.augment(images, self._draws(step)[own])
            yield {'image': self.arrays.transforms.send(images), 'label': labels}

    def validation(self) -> Iterator[Batch]:
        images, labels = self.arrays.images['validation'], self.arrays.labels['validation']
        for start in range(0, len(labels), self.batch_size):
            rows = np.arange(start, start + self.batch_size)[self.share.of(self.batch_size)]
            padded = np.minimum(rows, len(labels) - 1)
            sent = self.arrays.transforms.send(images[padded])
            yield {'image': sent, 'label': labels[padded], 'mask': rows < len(labels)}

    def _permutation(self, epoch: int) -> np.ndarray:
        size = len(self.arrays.labels['train'])
        if self.arrays.reshuffle:
            return permutation(self.seed, epoch, size, self.order)
        return permutation(self.seed, 0, size, self.order) if self.order else np.arange(size)

    def _draws(self, step: int) -> np.ndarray:
        """(batch_size, DRAWS) uniform numbers for the augmentation of a step, those of all processes."""
        return np.random.default_rng((self.seed, step, self.order, _DRAWN)).random((self.batch_size, DRAWS))


@functools.lru_cache(maxsize=4)  # two epochs, of two orders each
def permutation(seed: int, epoch: int, size: int, order: int = 0) -> np.ndarray:
    """(size,) the order of the images in an epoch, where every one is shuffled anew.

    numpy fills what is missing of four numbers with zeros, so order 0 is what (seed, epoch) gives; and a seed beyond
    32 bits would be two numbers, so that its epoch 0 would be the epoch 1 of another seed.
    """
    return np.random.default_rng((seed, epoch, order)).permutation(size)


def digits(config) -> Arrays:
    """Returns scikit-learn's handwritten digits, (8, 8, 1) float32 in [0, 1]: 1,500 to train on, 297 to validate."""
    (package,) = importlib.util.find_spec('sklearn').submodule_search_locations  # not imported: that takes a second
    rows = np.loadtxt(pathlib.Path(package, 'datasets', 'data', 'digits.csv.gz'), delimiter=',')  # pixels, then a label
    rows = rows[np.random.default_rng(0).permutation(len(rows))]
    images = (rows[:, :-1].reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    labels = rows[:, -1].astype(np.int32)
    return Arrays(_split(images, 1500), _split(labels, 1500), reshuffle=False)


def synthetic(config) -> Arrays:
    """Returns noise with random labels, (28, 28, 1) uint8 in 10 classes, for measuring speed."""
    random = np.random.default_rng(config.seed)
    size = max(1024, config.batch_size)
    memory.require(size * 28 * 28, f'batch_size={config.batch_size}: that much noise', 'Use smaller batches')
    images = random.integers(0, 256, (size + 512, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, size + 512).astype(np.int32)
    return Arrays(_split(images, size), _split(labels, size))


def _split(array: np.ndarray, training: int) -> dict[str, np.ndarray]:
    return dict(zip(SPLITS, (array[:training], array[training:])))

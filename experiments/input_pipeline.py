"""Datasets as pure functions of (seed, step): the same step gives the same batch, on any restart.

TensorFlow is imported only where a dataset comes through tensorflow-datasets, and never sees an
accelerator.
"""

import dataclasses
import functools
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np

from experiments.errors import UserError
from qat import calls

SPLITS = ('train', 'validation')
_FETCHED_FROM = {  # what to ask whether tfds could download at all: its own retries take minutes
    'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz',
    'fashion_mnist': 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz',
}
_PROBE_SECONDS = 5


@dataclasses.dataclass(frozen=True)
class Arrays:
    """A data set in memory.

    Attributes:
      images: by split, (n, height, width, channels), uint8 (scaled by 1/255 when read) or float32.
      labels: by split, (n,) int32.
      reshuffle: whether every epoch has a fresh permutation, or all have the stored order.
    """

    images: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    reshuffle: bool = True

    @property
    def classes(self) -> int:
        return 1 + max(int(labels.max()) for labels in self.labels.values())

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.images['train'].shape[1:]


@dataclasses.dataclass(frozen=True)
class Batches:
    """The batches of a run: (seed, step) -> images and labels."""

    arrays: Arrays
    seed: int
    batch_size: int

    @property
    def steps_in_data(self) -> int:
        return len(self.arrays.labels['train']) // self.batch_size

    def train(self, step: int, steps_per_epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The batch of a step: images (batch, ...) float32 and labels (batch,) int32."""
        epoch, index = divmod(step, steps_per_epoch)
        chosen = self._order(epoch)[index * self.batch_size : (index + 1) * self.batch_size]
        return _scaled(self.arrays.images['train'][chosen]), self.arrays.labels['train'][chosen]

    def validation(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Every validation example once, in padded batches of one size, with a mask of what is real."""
        images, labels = self.arrays.images['validation'], self.arrays.labels['validation']
        for start in range(0, len(labels), self.batch_size):
            stop = min(start + self.batch_size, len(labels))
            rows = np.minimum(np.arange(start, start + self.batch_size), len(labels) - 1)
            yield _scaled(images[rows]), labels[rows], np.arange(start, start + self.batch_size) < stop

    def _order(self, epoch: int) -> np.ndarray:
        size = len(self.arrays.labels['train'])
        return _permutation(self.seed, epoch, size) if self.arrays.reshuffle else np.arange(size)


@functools.lru_cache(maxsize=2)
def _permutation(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(size)


def _scaled(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


def load(config) -> Batches:
    """The batches that a config names.

    Raises:
      UserError: a dataset that does not exist or cannot be had, or a batch larger than the data.
    """
    name = config.dataset
    if name in DATASETS:
        arrays = DATASETS[name](config)
    elif name.endswith('.npz'):
        arrays = _from_file(name)
    else:
        raise UserError(f'dataset: {calls.unknown("dataset", name, [*DATASETS, "FILE.npz"])}')
    batches = Batches(arrays, config.seed, config.batch_size)
    if not batches.steps_in_data:
        size = len(arrays.labels['train'])
        raise UserError(f'batch_size={config.batch_size}: {name} has only {size} training images')
    return batches


def _digits(config) -> Arrays:
    """scikit-learn's handwritten digits, pixels / 16, 8x8: 1,500 to train on and 297 to validate."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    images = (digits.images[order, :, :, None] / 16).astype(np.float32)
    labels = digits.target[order].astype(np.int32)
    return Arrays(_split(images, 1500), _split(labels, 1500), reshuffle=False)


def _synthetic(config) -> Arrays:
    """Noise with random labels, 28x28 uint8, for measuring speed."""
    random = np.random.default_rng(config.seed)
    size = max(1024, config.batch_size)
    images = random.integers(0, 256, (size + 512, 28, 28, 1), np.uint8)
    labels = random.integers(0, 10, size + 512).astype(np.int32)
    return Arrays(_split(images, size), _split(labels, size))


def _split(array: np.ndarray, training: int) -> dict[str, np.ndarray]:
    return dict(zip(SPLITS, (array[:training], array[training:])))


def _from_file(path: str) -> Arrays:
    """Plain arrays: train_images, train_labels, validation_images and validation_labels of an .npz."""
    try:
        with np.load(path, allow_pickle=False) as file:
            images, labels = ({split: file[f'{split}_{kind}'] for split in SPLITS} for kind in ('images', 'labels'))
    except KeyError as error:
        raise UserError(
            f'dataset: {path} has no array {error.args[0]}; it needs train_/validation_ images and labels'
        ) from None
    except Exception as error:
        raise UserError(f'dataset: cannot read {path}: {error}') from None
    for split in SPLITS:
        image, label = images[split], labels[split]
        if (
            image.ndim != 4
            or label.shape != image.shape[:1]
            or not len(label)
            or not np.issubdtype(label.dtype, np.integer)
        ):
            raise UserError(f'dataset: {path}: {split} needs images (n, height, width, channels) and n integer labels')
        if label.min() < 0 or image.shape[1:] != images['train'].shape[1:]:
            raise UserError(f'dataset: {path}: {split} has negative labels, or images of another shape than train')
        images[split] = image if image.dtype == np.uint8 else image.astype(np.float32)
        labels[split] = label.astype(np.int32)
    return Arrays(images, labels)


def _from_tfds(config) -> Arrays:
    """A dataset of tensorflow-datasets, downloaded where it is not yet prepared."""
    directory, name = tfds_directory(config.data_dir), config.dataset
    if not is_prepared(directory, name) and not _can_fetch(_FETCHED_FROM[name]):
        raise UserError(
            f'dataset: {name} is not in {directory} and cannot be fetched. Either connect to the internet, '
            f'or get its idx files and run python -m scripts.prepare_mnist --idx-dir DIR --name {name}'
        )
    tfds = import_tfds()
    builder = tfds.builder(name, data_dir=str(directory))
    builder.download_and_prepare()  # does nothing where it is prepared
    names = dict(zip(SPLITS, ('train', 'test')))
    data = {split: tfds.as_numpy(builder.as_dataset(split=names[split], batch_size=-1)) for split in SPLITS}
    return Arrays(
        {split: data[split]['image'] for split in SPLITS},
        {split: data[split]['label'].astype(np.int32) for split in SPLITS},
    )


def import_tfds():
    """tensorflow-datasets, imported late (it costs seconds), quiet, and off the accelerators."""
    os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '3')
    os.environ.setdefault('TF_ENABLE_ONEDNN_OPTS', '0')  # TensorFlow only reads data here
    import tensorflow as tf
    import tensorflow_datasets as tfds

    tf.config.set_visible_devices([], 'GPU')
    tf.config.set_visible_devices([], 'TPU')
    return tfds


def tfds_directory(data_dir: str) -> pathlib.Path:
    """Where tfds keeps its data; '' is its own default."""
    return pathlib.Path(data_dir or os.environ.get('TFDS_DATA_DIR') or '~/tensorflow_datasets').expanduser()


def is_prepared(directory: pathlib.Path, name: str) -> bool:
    """Whether tfds has prepared the dataset there, found out without importing it."""
    return any((directory / name).glob('*/dataset_info.json'))


def _can_fetch(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # somebody answered
    except OSError:
        return False
    return True


DATASETS: dict[str, Callable] = {
    'digits': _digits,
    'mnist': _from_tfds,
    'fashion_mnist': _from_tfds,
    'synthetic': _synthetic,
}

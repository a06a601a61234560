"""The batches of a run: which data set a config names, and the small ones of tensorflow-datasets."""

import urllib.error
import urllib.request
from collections.abc import Callable

import numpy as np

from experiments.data import arrays, prepared
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays, Batches
from experiments.data.imagenet import ImageNet
from experiments.data.prepared import is_prepared, tfds_directory
from experiments.errors import UserError
from experiments.setup.settings import check_image_shape
from experiments.training.distributed import Share

_FETCHED_FROM = {  # what to ask whether tfds could download at all: its own retries take minutes
    'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz',
    'fashion_mnist': 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz',
}
_PROBE_SECONDS = 5


def load(config, share: Share = Share()) -> Batches:  # noqa: B008, it is frozen
    """The batches that a config names: of every one, this process's share.

    Raises:
      UserError: a dataset that does not exist or cannot be had, images too small for the model, or a batch that
        is larger than the data or does not divide among the processes.
    """
    name = config.dataset
    arrays.check_name(name)
    if config.batch_size % share.count:
        raise UserError(f'batch_size={config.batch_size} must be a multiple of the {share.count} processes')
    if name == 'imagenet2012':
        check_image_shape(config, (config.image_size, config.image_size))  # before hours of preparation
        batches = ImageNet(config, share)
    else:
        found = ARRAYS[name](config) if name in ARRAYS else arrays.from_file(name)
        check_image_shape(config, found.images['train'].shape[1:])
        batches = ArrayBatches(found, config.seed, config.batch_size, share)
    if not batches.steps_in_data:
        raise UserError(f'batch_size={config.batch_size}: {name} has fewer training images than that')
    return batches


def _small(config) -> Arrays:
    """A dataset of tensorflow-datasets that fits in memory, downloaded where it is not yet prepared."""
    directory, name = tfds_directory(config.data_dir), config.dataset
    if not is_prepared(directory, name) and not _can_fetch(_FETCHED_FROM[name]):
        raise UserError(
            f'dataset: {name} is not in {directory} and cannot be fetched. Either connect to the internet, '
            f'or get its idx files and run python -m scripts.prepare_mnist --idx-dir DIR --name {name}'
        )
    names = dict(zip(SPLITS, ('train', 'test')))
    builder = prepared.prepare(directory, name, names.values(), _FETCHED_FROM[name])
    data = {split: prepared.read(builder, names[split]) for split in SPLITS}
    return Arrays(
        {split: data[split]['image'] for split in SPLITS},
        {split: data[split]['label'].astype(np.int32) for split in SPLITS},
    )


def _can_fetch(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # somebody answered
    except OSError:
        return False
    return True


ARRAYS: dict[str, Callable] = {
    'digits': arrays.digits,
    'mnist': _small,
    'fashion_mnist': _small,
    'synthetic': arrays.synthetic,
}

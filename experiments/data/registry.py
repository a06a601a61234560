"""The data sets that a config can name, and the small ones of tensorflow-datasets (tfds)."""

import dataclasses
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable

import numpy as np

from experiments.data import arrays, folders, imagenet, npz, prepared, text
from experiments.data.arrays import SPLITS, ArrayBatches, Arrays
from experiments.data.batches import ALONE, Batches, Share
from experiments.data.classification import Classification
from experiments.data.prepared import is_prepared, tfds_directory
from experiments.data.task import ModelOf, Task
from experiments.data.transforms import PHOTOGRAPHS, PLAIN, Transforms
from experiments.errors import UserError
from qat import calls

_PROBE_SECONDS = 5
_FOLDER, _TEXT = 'folder:', 'text:'
_IDX_FILES = 'get its idx files and run python -m scripts.prepare_mnist --idx-dir DIR --name {name}'
_TEXT_FILE = 'get its text and run python -m scripts.prepare_text --file FILE'
_IMAGE_FILES = 'give its images as files: --config.dataset=folder:DIR, with DIR/train/CLASS/ and DIR/test/CLASS/'


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set that a config can name.

    Attributes:
      load: a function of the config and this process's share that returns the batches.
      task: a function of the config and `model_of` that returns the task without reading the data.
      decodes: whether the CPU decodes the images of every batch while a run trains.
    """

    load: Callable[[object, Share], Batches]
    task: Callable[[object, ModelOf], Task]
    decodes: bool = False


def _in_memory(
    read: Callable, image_shape: tuple[int, int, int], classes: int = 10, transforms: Transforms = PLAIN
) -> Dataset:
    """Returns a data set in memory: `read(config)` gives its arrays, the rest answers without reading them."""
    return Dataset(
        lambda config, share: _batches(read(config), config, share),
        lambda config, model_of: Classification(model_of(classes), image_shape, transforms.normalize),
    )


def _batches(read: Arrays, config, share: Share) -> ArrayBatches:
    return ArrayBatches(read.validated_on(config.max_validation_examples), config.seed, config.batch_size, share)


def _of_the_user(read: Callable) -> Dataset:
    """Returns a data set in memory that has to be read to be known: `read(config)` gives its arrays."""

    def load(config, share: Share) -> ArrayBatches:
        return _batches(read(config), config, share)

    return Dataset(load, lambda config, model_of: load(config, ALONE).task(model_of))


def _of_tfds(url: str, otherwise: str = _IDX_FILES, transforms: Transforms = PLAIN) -> Callable:
    """Returns a function of the config that reads a small data set of tfds, and downloads it if it is not prepared.

    Args:
      url: an address to try before a download, because tfds would spend minutes on retries without internet.
      otherwise: what to do without internet; {name} is the data set's.
      transforms: what is done to its images.
    """

    def read(config) -> Arrays:
        names = dict(zip(SPLITS, ('train', 'test')))
        builder = _fetched(config, url, otherwise, names.values())
        data = {split: prepared.read(builder, names[split]) for split in SPLITS}
        return Arrays(
            {split: data[split]['image'] for split in SPLITS},
            {split: data[split]['label'].astype(np.int32) for split in SPLITS},
            transforms=transforms,
        )

    return read


def _tiny_shakespeare(config, share: Share) -> text.TextBatches:
    """The first nine tenths are for training; what tfds calls validation and test is the last one."""
    url = 'https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt'
    builder = _fetched(config, url, _TEXT_FILE, text.OF_TFDS)
    training, *others = (prepared.read(builder, split)['text'][0] for split in text.OF_TFDS)
    return text.batches(training, b''.join(others), config, share)


def _fetched(config, url: str, otherwise: str, splits: Iterable[str]):
    """Returns the builder of tfds for the data set of a config, with these splits; see `_of_tfds`."""
    directory, name = tfds_directory(config.data_dir), config.dataset
    if not is_prepared(directory, name) and not _can_fetch(url):
        raise UserError(
            f'dataset: {name} is not in {directory} and cannot be fetched. Either connect to the internet, '
            f'or {otherwise.format(name=name)}'
        )
    return prepared.prepare(directory, name, splits, url)


def _of_text(load: Callable[[object, Share], Batches]) -> Dataset:
    return Dataset(load, lambda config, model_of: text.task(model_of, config.context))


DATASETS = {
    'digits': _in_memory(arrays.digits, (8, 8, 1)),
    'mnist': _in_memory(
        _of_tfds('https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz'), (28, 28, 1)
    ),
    'fashion_mnist': _in_memory(
        _of_tfds('http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz'), (28, 28, 1)
    ),
    'cifar10': _in_memory(
        _of_tfds('https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz', _IMAGE_FILES, PHOTOGRAPHS),
        (32, 32, 3),
        transforms=PHOTOGRAPHS,
    ),
    'synthetic': _in_memory(arrays.synthetic, (28, 28, 1)),
    'tiny_shakespeare': _of_text(_tiny_shakespeare),
    'imagenet2012': Dataset(
        imagenet.ImageNet, lambda config, model_of: imagenet.task(model_of, config.image_size), decodes=True
    ),
}


def load(config, share: Share = ALONE) -> Batches:
    """Returns the batches of the data set that a config names; every batch has only this process's share of its rows.

    Raises:
      UserError: the data set does not exist or cannot be read, or the batch size is larger than the data or no
        multiple of the number of processes.
    """
    if config.batch_size % share.count:
        raise UserError(f'batch_size={config.batch_size} must be a multiple of the {share.count} processes')
    batches = dataset(config.dataset).load(config, share)
    if not batches.steps_in_data:
        raise UserError(f'batch_size={config.batch_size}: {config.dataset} has fewer training examples than that')
    return batches


def task(config, model_of: ModelOf) -> Task:
    """Returns the task of the data set that a config names. The data are read only if they are the user's own images.

    Raises:
      UserError: the data set does not exist, or the model does not take what it holds.
    """
    return dataset(config.dataset).task(config, model_of)


def dataset(name: str) -> Dataset:
    """Returns the data set of a name, or of an .npz file, a folder of images or a text, which are not read yet.

    Raises:
      UserError: there is no data set of this name.
    """
    if name.startswith(_FOLDER):
        return _of_the_user(lambda config: folders.read(name.removeprefix(_FOLDER), config.image_size))
    if name.startswith(_TEXT):
        return _of_text(lambda config, share: text.load(name.removeprefix(_TEXT), config, share))
    if name.endswith('.npz'):
        return _of_the_user(lambda config: npz.read(name))
    if name not in DATASETS:
        raise UserError(
            f'dataset: {calls.unknown("dataset", name, [*DATASETS, "FILE.npz", f"{_FOLDER}DIR", f"{_TEXT}FILE"])}'
        )
    return DATASETS[name]


def _can_fetch(url: str) -> bool:
    try:
        urllib.request.urlopen(urllib.request.Request(url, method='HEAD'), timeout=_PROBE_SECONDS).close()
    except urllib.error.HTTPError:
        return True  # the server answered, so there is internet
    except OSError:
        return False
    return True

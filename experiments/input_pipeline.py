"""The batches of a run: which data set a config names, and those that come through tensorflow-datasets.

The only importer of TensorFlow, which is loaded only where it is needed and never sees an accelerator.
"""

import itertools
import os
import pathlib
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator

import numpy as np

from experiments import datasets
from experiments.datasets import SPLITS, ArrayBatches, Arrays, Batches
from experiments.distributed import Share
from experiments.errors import UserError
from qat import calls

_FETCHED_FROM = {  # what to ask whether tfds could download at all: its own retries take minutes
    'mnist': 'https://storage.googleapis.com/cvdf-datasets/mnist/t10k-labels-idx1-ubyte.gz',
    'fashion_mnist': 'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/t10k-labels-idx1-ubyte.gz',
}
_PROBE_SECONDS = 5
_SHUFFLE_BUFFER = 16_384  # undecoded images: about 2 GB of ImageNet
_PREFETCHED_BATCHES = 4
_CENTRE = 0.875


def load(config, share: Share = Share()) -> Batches:  # noqa: B008, it is frozen
    """The batches that a config names: of every one, this process's share.

    Raises:
      UserError: a dataset that does not exist or cannot be had, or a batch larger than the data.
    """
    name = config.dataset
    if name == 'imagenet2012':
        batches = ImageNet(config, share)
    elif name in ARRAYS or name.endswith('.npz'):
        arrays = ARRAYS[name](config) if name in ARRAYS else datasets.from_file(name)
        batches = ArrayBatches(arrays, config.seed, config.batch_size, share)
    else:
        raise UserError(f'dataset: {calls.unknown("dataset", name, [*ARRAYS, "imagenet2012", "FILE.npz"])}')
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
    tfds = import_tfds()
    builder = tfds.builder(name, data_dir=str(directory))
    builder.download_and_prepare()  # does nothing where it is prepared
    names = dict(zip(SPLITS, ('train', 'test')))
    data = {split: tfds.as_numpy(builder.as_dataset(split=names[split], batch_size=-1)) for split in SPLITS}
    return Arrays(
        {split: data[split]['image'] for split in SPLITS},
        {split: data[split]['label'].astype(np.int32) for split in SPLITS},
    )


class ImageNet:
    """ImageNet 2012 through tf.data: uint8 images, decoded and cropped in one operation.

    The order and the crops are a function of (seed, epoch, step): a run that continues at a step
    skips undecoded examples and sees exactly the tail of the unbroken stream. Each process reads its own
    part of the files, so that the order also depends on how many processes there are.
    """

    classes = 1000

    def __init__(self, config, share: Share):
        directory = tfds_directory(config.data_dir)
        archives = directory / 'downloads' / 'manual'
        there = all((archives / f'ILSVRC2012_img_{split}.tar').is_file() for split in ('train', 'val'))
        if not there and not is_prepared(directory, 'imagenet2012'):
            raise UserError(
                f'dataset: imagenet2012 is not in {directory}. Put ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar '
                f'in {archives}, or try python -m scripts.make_tiny_imagenet --out DIR'
            )
        self._tfds = import_tfds()
        self._builder = self._tfds.builder('imagenet2012', data_dir=str(directory))
        self._builder.download_and_prepare()
        self._seed, self._batch_size, self._share = config.seed, config.batch_size, share
        self._local_size = config.batch_size // share.count
        self.image_shape = (config.image_size, config.image_size, 3)

    @property
    def steps_in_data(self) -> int:
        return self._builder.info.splits['train'].num_examples // self._batch_size

    def train(self, start: int, steps_per_epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        first_epoch, index = divmod(start, steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            skipped = index if epoch == first_epoch else 0
            yield from self._epoch(epoch, skipped).take(steps_per_epoch - skipped).as_numpy_iterator()

    def _epoch(self, epoch: int, skipped: int):
        """The epoch's batches but for the first so many."""
        import tensorflow as tf

        sequence = np.random.SeedSequence((self._seed, epoch, self._share.index))
        files, examples, crops = map(int, sequence.generate_state(3) // 2)  # tf takes signed seeds
        stream = self._stream('train', shuffle_files=True, shuffle_seed=files)
        stream = stream.shuffle(_SHUFFLE_BUFFER, examples, reshuffle_each_iteration=False)
        stream = stream.enumerate().skip(skipped * self._local_size)

        def decode(position, example):
            seed = tf.stack([tf.constant(crops, tf.int64), position])
            image = _random_crop(tf, example['image'], seed, self.image_shape)
            return image, tf.cast(example['label'], tf.int32)

        stream = stream.map(decode, tf.data.AUTOTUNE, deterministic=True)
        return stream.batch(self._local_size, drop_remainder=True).prefetch(_PREFETCHED_BATCHES)

    def validation(self) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        import tensorflow as tf

        def decode(example):
            return _centre_crop(tf, example['image'], self.image_shape), tf.cast(example['label'], tf.int32)

        stream = self._stream('validation').map(decode, tf.data.AUTOTUNE, deterministic=True)
        batches = stream.batch(self._local_size).prefetch(_PREFETCHED_BATCHES).as_numpy_iterator()
        # Shares differ by an image; every process must see as many batches as the longest has.
        longest = -(-self._builder.info.splits['validation'].num_examples // self._share.count)
        for _ in range(-(-longest // self._local_size)):
            images, labels = next(batches, (np.zeros((0, *self.image_shape), np.uint8), np.zeros(0, np.int32)))
            padding = [(0, self._local_size - len(labels))]
            mask = np.arange(self._local_size) < len(labels)
            yield np.pad(images, padding + [(0, 0)] * 3), np.pad(labels, padding), mask

    def _stream(self, split: str, *, shuffle_files: bool = False, shuffle_seed: int | None = None):
        """Undecoded examples, in an order that follows from the seed."""
        import tensorflow as tf

        options = tf.data.Options()
        options.deterministic = True
        read = self._tfds.ReadConfig(
            options=options, shuffle_seed=shuffle_seed, try_autocache=False, skip_prefetch=True
        )
        return self._builder.as_dataset(
            split=self._tfds.even_splits(split, self._share.count)[self._share.index],
            shuffle_files=shuffle_files,
            read_config=read,
            decoders={'image': self._tfds.decode.SkipDecoding()},
        )


def _random_crop(tf, encoded, seed, shape):
    """A random crop of 8% to 100% of the image (Szegedy et al. 2014), resized and perhaps flipped, uint8."""
    begin, size, _ = tf.image.stateless_sample_distorted_bounding_box(
        tf.image.extract_jpeg_shape(encoded),
        bounding_boxes=tf.zeros([1, 0, 4]),
        seed=seed,
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )
    image = _decode_window(tf, encoded, tf.concat([begin[:2], size[:2]], axis=0), shape)
    return tf.image.stateless_random_flip_left_right(image, seed)


def _centre_crop(tf, encoded, shape):
    """The central square, 7/8 of the shorter side, resized, uint8."""
    extent = tf.image.extract_jpeg_shape(encoded)[:2]
    side = tf.cast(_CENTRE * tf.cast(tf.reduce_min(extent), tf.float32), tf.int32)
    return _decode_window(tf, encoded, tf.concat([(extent - side) // 2, [side, side]], axis=0), shape)


def _decode_window(tf, encoded, window, shape):
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.resize(image, shape[:2], tf.image.ResizeMethod.BICUBIC)
    return tf.ensure_shape(tf.saturate_cast(tf.round(image), tf.uint8), shape)


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


ARRAYS: dict[str, Callable] = {
    'digits': datasets.digits,
    'mnist': _small,
    'fashion_mnist': _small,
    'synthetic': datasets.synthetic,
}

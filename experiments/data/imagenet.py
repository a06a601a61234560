"""ImageNet 2012 through tf.data: uint8 images, decoded and cropped in one operation."""

import copy
import itertools
import sys
from collections.abc import Callable, Iterator
from typing import Self

import numpy as np
from tqdm import tqdm

from experiments.data import archives, prepared
from experiments.data.arrays import SPLITS
from experiments.data.batches import Batch, Share
from experiments.data.classification import Classification
from experiments.data.normalization import normalize
from experiments.data.task import ModelOf
from experiments.errors import UserError

_SHUFFLE_BUFFER = 16_384  # undecoded images: about 2 GB of ImageNet
_PREFETCHED_BATCHES = 4
_CENTRE = 0.875
CLASSES = 1000


def task(model_of: ModelOf, image_size: int) -> Classification:
    """Returns the task of classifying ImageNet's images, cropped to (image_size, image_size, 3)."""
    return Classification(model_of(CLASSES), (image_size, image_size, 3), normalize)


class ImageNet:
    """The batches of ImageNet; every batch has only this process's share of its rows.

    The order and the crops are a function of (seed, order, epoch, step). A run that continues at a step skips examples
    without decoding them, and sees exactly the rest of the unbroken stream. Each process reads its own part of the
    files, so the order also depends on the number of processes.

    An image that cannot be decoded keeps its place in the order, so that no other image moves.
    """

    def __init__(self, config, share: Share):
        """Prepares the data set if it is not prepared yet.

        Raises:
          UserError: it cannot be prepared, or has fewer images than there are processes.
        """
        directory = prepared.tfds_directory(config.data_dir)
        manual = directory / 'downloads' / 'manual'
        if not prepared.is_prepared(directory, 'imagenet2012'):
            archives.check(manual)
        source = f'{" and ".join(archives.ARCHIVES)} in {manual}'
        self._builder = prepared.prepare(directory, 'imagenet2012', SPLITS, source)
        self._seed, self._batch_size, self._share = config.seed, config.batch_size, share
        self._order = 0  # which of the orders of the same data that a seed has
        self._local_size = config.batch_size // share.count
        most = config.max_validation_examples
        self._splits = dict(zip(SPLITS, SPLITS))
        if 0 < most < self._images('validation'):
            self._splits['validation'] = f'validation[:{most}]'
        self._refuses = config.corrupt_images == 'refuse'
        self._guarded: set[str] = set()  # the splits in which a corrupt image has been met
        self._told: set[str] = set()  # the corrupt files that the user was told of
        self.image_shape = (config.image_size, config.image_size, 3)
        for split in SPLITS:
            if self._images(split) < share.count:
                raise UserError(f'dataset: imagenet2012 has fewer {split} images than the {share.count} processes')

    @property
    def steps_in_data(self) -> int:
        return self._images('train') // self._batch_size

    def task(self, model_of: ModelOf) -> Classification:
        return task(model_of, self.image_shape[0])

    def reshuffled(self) -> Self:
        other = copy.copy(self)  # tells of a corrupt file once for both
        other._order += 1
        return other

    def _images(self, split: str) -> int:
        return self._builder.info.splits[self._splits[split]].num_examples

    def train(self, start: int, steps_per_epoch: int) -> Iterator[Batch]:
        first_epoch, index = divmod(start, steps_per_epoch)
        for epoch in itertools.count(first_epoch):
            first = index if epoch == first_epoch else 0
            for images, labels, names in self._batches('train', *self._epoch(epoch), first, steps_per_epoch):
                sound = self._sound('train', names)
                if not sound.all():
                    rows = self._replaced(sound)
                    images, labels = images[rows], labels[rows]
                yield {'image': images, 'label': labels}

    def validation(self) -> Iterator[Batch]:
        tf, any_sound = prepared.import_tensorflow(), False
        # Shares differ by an image, but every process must yield as many batches as the one with the most images.
        count = -(-self._images('validation') // (self._share.count * self._local_size))
        stream = self._undecoded('validation')
        batches = self._batches('validation', stream, lambda _, image: _centre_crop(tf, image, self.image_shape))
        nothing = np.zeros((0, *self.image_shape), np.uint8), np.zeros(0, np.int32), np.zeros(0, object)
        for images, labels, names in itertools.islice(itertools.chain(batches, itertools.repeat(nothing)), count):
            sound = self._sound('validation', names)
            any_sound |= sound.any()
            padding = [(0, self._local_size - len(labels))]
            padded = np.pad(images, padding + [(0, 0)] * 3), np.pad(labels, padding), np.pad(sound, padding)
            yield dict(zip(('image', 'label', 'mask'), padded))
        if not any_sound:
            raise UserError(f'dataset: no validation image in {self._builder.data_dir} can be decoded')

    def _epoch(self, epoch: int):
        """Returns the undecoded examples of an epoch, and a function that crops each by its number."""
        tf = prepared.import_tensorflow()
        sequence = np.random.SeedSequence((self._seed, epoch, self._share.index, self._order))
        files, examples, crops = map(
            int, sequence.generate_state(3) // 2
        )  # halved, because seeds of TensorFlow are signed
        stream = self._undecoded('train', shuffle_files=True, shuffle_seed=files)
        stream = stream.shuffle(_SHUFFLE_BUFFER, examples, reshuffle_each_iteration=False)

        def crop(number, image):
            return _random_crop(tf, image, tf.stack([tf.constant(crops, tf.int64), number]), self.image_shape)

        return stream, crop

    def _undecoded(self, split: str, *, shuffle_files: bool = False, shuffle_seed: int | None = None):
        """Returns this process's examples of a split, undecoded, in an order that follows from the seed."""
        tf, tfds = prepared.import_tensorflow(), prepared.import_tfds()
        options = tf.data.Options()
        options.deterministic = True
        read = tfds.ReadConfig(options=options, shuffle_seed=shuffle_seed, try_autocache=False, skip_prefetch=True)
        return self._builder.as_dataset(
            split=tfds.even_splits(self._splits[split], self._share.count)[self._share.index],
            shuffle_files=shuffle_files,
            read_config=read,
            decoders={'image': tfds.decode.SkipDecoding()},
        )

    def _batches(self, split: str, stream, crop: Callable, first: int = 0, last: int | None = None) -> Iterator[tuple]:
        """Yields batches of images, labels and names; a name is the file's if the image is corrupt, else b''.

        Images are decoded without a guard until one turns out to be corrupt, and with the guard from that batch on.
        So sound images cost nothing extra; the guard does not change them.
        """
        tf = prepared.import_tensorflow()
        stream = stream.enumerate()
        while True:
            guarded = split in self._guarded
            batches = stream.skip(first * self._local_size).map(
                _decoder(tf, crop, self.image_shape, guarded), tf.data.AUTOTUNE, deterministic=True
            )
            batches = batches.batch(self._local_size).take(-1 if last is None else last - first)
            try:
                for batch in batches.prefetch(_PREFETCHED_BATCHES).as_numpy_iterator():
                    yield batch
                    first += 1
                return
            except tf.errors.OpError as error:
                if guarded:  # the guard has caught corrupt images, so it is something else
                    raise prepared.unreadable(self._builder, split, error) from error
            self._guarded.add(split)

    def _sound(self, split: str, names: np.ndarray) -> np.ndarray:
        """Returns which images of a batch are not corrupt, (n,) bool, and warns of the others, once for each file.

        Raises:
          UserError: an image is corrupt and the config says to refuse it.
        """
        corrupt = sorted({name.decode() for name in names if name} - self._told)
        if corrupt and self._refuses:
            others = f' and {len(corrupt) - 1} more of its batch' if corrupt[1:] else ''
            raise UserError(
                f'dataset: corrupt {split} image {corrupt[0]}{others} in {self._builder.data_dir}. Mend the archive, '
                'delete that folder and start again, or leave it out with --config.corrupt_images=skip'
            )
        for name in corrupt:
            self._told.add(name)
            fate = 'another of its batch takes its place' if split == 'train' else 'it is left out of the averages'
            tqdm.write(f'warning: corrupt {split} image {name}: {fate} ({len(self._told)} so far)', file=sys.stderr)
        return names == b''

    def _replaced(self, sound: np.ndarray) -> np.ndarray:
        """Returns the rows of a batch, (n,) int, with sound rows, in turn, in the place of the corrupt ones.

        Raises:
          UserError: no image of the batch is sound.
        """
        if not sound.any():
            raise UserError(
                f'batch_size={self._batch_size}: no image of a batch can be decoded, so none can take their place; '
                'use larger batches'
            )
        return np.where(sound, np.arange(len(sound)), np.resize(np.flatnonzero(sound), len(sound)))


def _decoder(tf, crop: Callable, shape: tuple[int, int, int], guarded: bool) -> Callable:
    """Returns a function from (number, example) to image, label and name.

    The name is '' unless the image is corrupt; a guarded decoder then gives a black image and the name of its file.
    The guard is a dataset of two images, the decoded one, which is dropped if decoding fails, and a black one; it takes
    the first.
    """

    def decode(number, example):
        return crop(number, example['image']), tf.cast(example['label'], tf.int32), tf.constant('')

    def guard(number, example):
        decoded = tf.data.Dataset.from_tensors((number, example)).map(decode).ignore_errors()
        black = tf.zeros(shape, tf.uint8), tf.cast(example['label'], tf.int32), example['file_name']
        return decoded.concatenate(tf.data.Dataset.from_tensors(black)).take(1).get_single_element()

    return guard if guarded else decode


def _random_crop(tf, encoded, seed, shape):
    """Returns a random crop of 8% to 100% of the image (Szegedy et al. 2014), resized and perhaps flipped, uint8."""
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
    """Returns the central square of 7/8 of the shorter side, resized, uint8."""
    extent = tf.image.extract_jpeg_shape(encoded)[:2]
    side = tf.maximum(1, tf.cast(_CENTRE * tf.cast(tf.reduce_min(extent), tf.float32), tf.int32))
    return _decode_window(tf, encoded, tf.concat([(extent - side) // 2, [side, side]], axis=0), shape)


def _decode_window(tf, encoded, window, shape):
    image = tf.io.decode_and_crop_jpeg(encoded, window, channels=3)
    image = tf.image.resize(image, shape[:2], tf.image.ResizeMethod.BICUBIC)
    return tf.ensure_shape(tf.saturate_cast(tf.round(image), tf.uint8), shape)

"""Images a second of this project's ImageNet batches against the plain tf.data recipe, on the same JPEGs.

The recipe is that of Flax's ImageNet example (google/flax, examples/imagenet/input_pipeline.py), restated at its
shortest: crop while decoding, bicubic resize, flip, normalise to float32 on the host; shuffle, map with AUTOTUNE,
batch, prefetch. Its crops are not reproducible; this project's are, and leave as uint8.
"""

import contextlib
import functools
import itertools
import os
import pathlib
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

from configs import imagenet_resnet50
from experiments.data import prepared
from experiments.data.batches import ALONE
from experiments.data.imagenet import ImageNet
from experiments.setup.settings import resolve
from scripts import make_tiny_imagenet
from scripts.measuring.session import Session

_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def recipe(data_dir: str, size: int, batch: int) -> Iterator[tuple]:
    """Batches of Flax's recipe."""
    tf, tfds = prepared.import_tensorflow(), prepared.import_tfds()
    options = tf.data.Options()
    options.threading.private_threadpool_size = 48  # as there
    skip = {'image': tfds.decode.SkipDecoding()}
    stream = tfds.builder('imagenet2012', data_dir=data_dir).as_dataset(split='train', decoders=skip)
    stream = stream.with_options(options).repeat().shuffle(16 * batch, seed=0)
    stream = stream.map(functools.partial(_preprocessed, tf, size), tf.data.AUTOTUNE)
    return stream.batch(batch, drop_remainder=True).prefetch(10).as_numpy_iterator()


def _preprocessed(tf, size: int, example: dict) -> tuple:
    encoded = example['image']
    shape = tf.io.extract_jpeg_shape(encoded)
    begin, extent, _ = tf.image.sample_distorted_bounding_box(
        shape,
        tf.constant([[[0.0, 0.0, 1.0, 1.0]]]),
        min_object_covered=0.1,
        aspect_ratio_range=(3 / 4, 4 / 3),
        area_range=(0.08, 1.0),
        max_attempts=10,
        use_image_if_no_bounding_boxes=True,
    )

    def resized(window):
        image = tf.image.decode_and_crop_jpeg(encoded, window, channels=3)
        return tf.image.resize(image, (size, size), tf.image.ResizeMethod.BICUBIC)

    def centre():
        side = tf.cast(size / (size + 32) * tf.cast(tf.reduce_min(shape[:2]), tf.float32), tf.int32)
        return resized(tf.concat([(shape[:2] - side + 1) // 2, [side, side]], 0))

    whole = tf.reduce_all(extent[:2] == shape[:2])  # no crop was found
    image = tf.cond(whole, centre, lambda: resized(tf.concat([begin[:2], extent[:2]], 0)))
    image = tf.image.random_flip_left_right(tf.ensure_shape(image, (size, size, 3)))
    return (image - tf.constant(_MEAN)) / tf.constant(_DEVIATION), example['label']


def ours(data_dir: str, batch: int) -> ImageNet:
    """This project's batches."""
    config = imagenet_resnet50.get_config()
    config.update({'data_dir': data_dir, 'batch_size': batch})
    return ImageNet(resolve(config).config, ALONE)


def speed(batches: Iterator[tuple], measured: int) -> dict[str, float]:
    """Images a second of a fresh stream, from its first batch on; and of processor time, a core's share."""
    next(batches)
    start, used = time.perf_counter(), time.process_time()
    images = sum(len(images) for images, _ in itertools.islice(batches, measured))
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    return {'images_per_second': images / elapsed, 'images_per_core_second': images / used}


@contextlib.contextmanager
def data(directory: pathlib.Path | None, images: int) -> Iterator[str]:
    """Where ImageNet lies prepared: the given directory, or a temporary one with so few images."""
    if directory is not None:
        yield str(directory)
        return
    with tempfile.TemporaryDirectory() as made:
        with contextlib.redirect_stdout(sys.stderr):
            if make_tiny_imagenet.main([f'--out={made}', f'--train={images}', '--validation=1']):
                raise RuntimeError('no tiny ImageNet could be made')
        yield made


def images(session: Session) -> None:
    """The rate of this project's batches over the recipe's: by the clock, and by processor time."""
    batch, measured = (4, 2) if session.tiny else (64, 12)
    # An epoch of the tiny set is a round, with the batch that fills the pipeline.
    with data(session.data, (1 + measured) * batch) as directory:
        batches = ours(directory, batch)
        streams: dict[str, Callable[[], Iterator]] = {
            'ours': lambda: batches.train(0, batches.steps_in_data),
            'recipe': lambda: recipe(directory, batches.image_shape[0], batch),
        }
        rounds = [
            {name: speed(stream(), measured) for name, stream in streams.items()} for _ in range(session.rounds + 1)
        ][1:]
    details = {'cores': len(os.sched_getaffinity(0)), 'batch_size': batch, 'rounds': rounds}
    for name, key, of in (
        ('images', 'images_per_second', 'a second'),
        ('images-core', 'images_per_core_second', 'a second of a core'),
    ):
        samples = [round_['ours'][key] / round_['recipe'][key] for round_ in rounds]
        what = f'ImageNet images {of}, ours / plain tf.data recipe'
        session.add(name, what, samples, limit=1.0, bound='at least', details=details)


BENCHMARKS = {'images': images}

"""Images a second of this project's ImageNet batches, by themselves and against the plain tf.data recipe.

Both read the same JPEGs: made ones of ImageNet's usual size, and then those of --data_dir. A rate is that of whole
batches on the host, decoded, cropped and resized; the JPEGs are read into memory before.

The recipe is that of Flax's ImageNet example (google/flax, examples/imagenet/input_pipeline.py), restated at its
shortest: crop while decoding, bicubic resize, flip, normalise to float32 on the host; shuffle, map with AUTOTUNE,
batch, prefetch. Its crops are not reproducible; this project's are, and leave as uint8.
"""

import functools
import itertools
import os
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np

from configs import imagenet_resnet50
from experiments.data import prepared
from experiments.data.batches import ALONE, Batch
from experiments.data.imagenet import ImageNet
from experiments.setup.settings import resolve
from scripts import make_tiny_imagenet
from scripts.measuring.session import Session

_USUAL = (500, 375)  # pixels of most of ImageNet's images
_QUALITY = 98  # of a JPEG that then has the bytes of ImageNet's average file, about 110 kB
_LOOKED_AT = 256  # images, to tell what a set consists of
_MEAN, _DEVIATION = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)


def undecoded(data_dir: str):
    """The training images as tfds has them, undecoded."""
    tfds = prepared.import_tfds()
    skip = {'image': tfds.decode.SkipDecoding()}
    return tfds.builder('imagenet2012', data_dir=data_dir).as_dataset(split='train', decoders=skip)


def recipe(data_dir: str, size: int, batch: int) -> Iterator[Batch]:
    """Batches of Flax's recipe."""
    tf = prepared.import_tensorflow()
    options = tf.data.Options()
    options.threading.private_threadpool_size = 48  # as there
    stream = undecoded(data_dir).with_options(options).repeat().shuffle(16 * batch, seed=0)
    stream = stream.map(functools.partial(_preprocessed, tf, size), tf.data.AUTOTUNE)
    return stream.batch(batch, drop_remainder=True).prefetch(10).as_numpy_iterator()


def _preprocessed(tf, size: int, example: dict) -> dict:
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
    return {'image': (image - tf.constant(_MEAN)) / tf.constant(_DEVIATION), 'label': example['label']}


def ours(data_dir: str, batch: int) -> ImageNet:
    """This project's batches."""
    config = imagenet_resnet50.get_config()
    config.update({'data_dir': data_dir, 'batch_size': batch})
    return ImageNet(resolve(config).config, ALONE)


def speed(batches: Iterator[Batch], measured: int) -> dict[str, float]:
    """Images a second of a fresh stream, from its first batch on; and of processor time, a core's share."""
    next(batches)
    start, used = time.perf_counter(), time.process_time()
    images = sum(len(batch['image']) for batch in itertools.islice(batches, measured))
    elapsed, used = time.perf_counter() - start, time.process_time() - used
    return {'images_per_second': images / elapsed, 'images_per_core_second': images / used}


def usual(name: str, tint: int, split: int, index: int) -> bytes:
    """The file of an image of ImageNet's usual size: a crop of a photograph as it is."""
    random = np.random.default_rng((split, index))
    photograph = make_tiny_imagenet.photographs()[index % 2]
    corner = random.integers(np.array(photograph.size) - _USUAL, endpoint=True)
    return make_tiny_imagenet.file(name, photograph.crop((*corner, *(corner + _USUAL))), quality=_QUALITY)


def description(data_dir: str) -> dict[str, float]:
    """What a set consists of: the median width and height of its first images, and their mean bytes."""
    files = [example['image'] for example in undecoded(data_dir).take(_LOOKED_AT).as_numpy_iterator()]
    shape = prepared.import_tensorflow().io.extract_jpeg_shape
    height, width, _ = np.median([shape(file) for file in files], axis=0)
    return {'width': float(width), 'height': float(height), 'bytes': float(np.mean([len(file) for file in files]))}


def compare(session: Session, name: str, data_dir: str, batch: int, measured: int) -> None:
    """Adds the rates of this project's batches on a set, and their ratios to the recipe's."""
    batches, jpegs = ours(data_dir, batch), description(data_dir)
    streams: dict[str, Callable[[], Iterator[Batch]]] = {
        'ours': lambda: batches.train(0, batches.steps_in_data),
        'recipe': lambda: recipe(data_dir, batches.image_shape[0], batch),
    }
    rounds = [{each: speed(stream(), measured) for each, stream in streams.items()} for _ in range(session.rounds + 1)]
    on = f'JPEGs of about {jpegs["width"]:.0f}x{jpegs["height"]:.0f} pixels and {jpegs["bytes"] / 1000:.0f} kB'
    details = {'cores': len(os.sched_getaffinity(0)), 'batch_size': batch, 'image_size': batches.image_shape[0]}
    details |= {'jpegs': jpegs, 'rounds': rounds[1:]}
    for suffix, key, of in (
        ('', 'images_per_second', 'a second'),
        ('-core', 'images_per_core_second', 'a second of a core'),
    ):
        rates, recipes = ([each[stream][key] for each in rounds[1:]] for stream in streams)
        ratios = [rate / other for rate, other in zip(rates, recipes)]
        what = f'ImageNet images {of}, ours / plain tf.data recipe, {on}'
        session.add(f'{name}{suffix}', what, ratios, limit=1.0, bound='at least', details=details)
        what = f'ImageNet images {of}, ours, {on}'
        session.add(f'{name}{suffix}-rate', what, rates, 'images/s', details=details)


def images(session: Session) -> None:
    """The rates on JPEGs of ImageNet's usual size, and on those of the session's data."""
    batch, measured = (4, 2) if session.tiny else (64, 12)
    with tempfile.TemporaryDirectory() as made:
        count = (1 + measured) * batch  # an epoch is a round, with the batch that fills the pipeline
        make_tiny_imagenet.install(make_tiny_imagenet.make_archives(count, 1, usual), pathlib.Path(made))
        compare(session, 'images', made, batch, measured)
    if session.data is not None:
        compare(session, 'images-data', str(session.data), batch, measured)


BENCHMARKS = {'images': images}

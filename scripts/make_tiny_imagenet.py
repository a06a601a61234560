"""Makes archives of a few images in ImageNet 2012's layout, to try the ImageNet path without the real 150 GB.

  python -m scripts.make_tiny_imagenet --out DIR [--train N] [--validation N]

The real `imagenet2012` builder of tensorflow-datasets (tfds) prepares them from DIR/downloads/manual, offline. The
training images are of eight classes. An image is a crop of one of scikit-learn's two photographs in the tint of its
class, so there is something to learn. As in the real set, all files are called .JPEG, but one is a PNG, one is a CMYK
JPEG and some are grayscale. tfds has a list of the classes of the validation images, so most of those are of classes
without training images. The same arguments give the same bytes.
"""

import functools
import importlib.util
import io
import pathlib
import shlex
import tarfile
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageColor
from sklearn.datasets import load_sample_images

from experiments.command import run, told
from experiments.data import prepared
from experiments.data.archives import ARCHIVES
from experiments.errors import UserError
from experiments.setup.arguments import Parser
from experiments.workdir.files import replacing

PNG, CMYK = 'n02105855_2933.JPEG', 'n02077923_14822.JPEG'  # two files that tfds re-encodes, which it knows by name
CLASSES = 8
_SIZES = ((500, 375), (375, 500), (400, 400), (640, 240), (120, 320), (75, 56))


def read_labels() -> tuple[list[str], list[str]]:
    """Returns all 1,000 synsets, and the synset of every validation image, from tfds's files.

    The files are read without importing tfds, which takes seconds.
    """
    package = pathlib.Path(importlib.util.find_spec('tensorflow_datasets').origin).parent / 'datasets/imagenet2012'
    return tuple(
        (package / name).read_text(encoding='utf-8').split() for name in ('labels.txt', 'validation_labels.txt')
    )


@functools.cache
def photographs() -> list[Image.Image]:
    """Returns the two photographs that all images are cut from."""
    return [Image.fromarray(photograph) for photograph in load_sample_images().images]


def encode(name: str, tint: int, split: int, index: int) -> bytes:
    """Returns the file of an image of a split: a random crop, in the tint of its class (0 to CLASSES - 1)."""
    random = np.random.default_rng((split, index))
    photograph = photographs()[random.integers(2)]
    size = np.array(_SIZES[random.integers(len(_SIZES))])
    extent = size * min(photograph.size / size) * random.uniform(0.4, 0.7)
    corner = random.uniform(0, photograph.size - extent)
    image = photograph.resize(size.tolist(), box=(*corner, *(corner + extent)))
    colour = ImageColor.getrgb(f'hsl({360 * tint // CLASSES}, 80%, 50%)')
    image = Image.blend(image, Image.new('RGB', image.size, colour), 0.6)
    return file(name, image.convert('L') if index % 17 == 2 else image)


def file(name: str, image: Image.Image, **options) -> bytes:
    """Returns the file of an image: a JPEG, but for the two names that tfds re-encodes; Pillow takes the options."""
    content = io.BytesIO()
    image.convert('CMYK' if name == CMYK else image.mode).save(content, 'PNG' if name == PNG else 'JPEG', **options)
    return content.getvalue()


def tar(files: dict[str, bytes]) -> bytes:
    """Returns a tar of files by name. It has no directories, because tfds takes every member for an image."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode='w') as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return content.getvalue()


def make_archives(train: int, validation: int, encode: Callable = encode) -> dict[str, bytes]:
    """Returns the two archives by file name, with so many training and validation images, made by `encode`."""
    synsets, labels = read_labels()
    odd = {name.split('_')[0]: name for name in (PNG, CMYK)}
    ranks = {synset: rank for rank, synset in enumerate(dict.fromkeys([*odd, *labels, *synsets]))}
    classes = {}
    for index in range(train):
        synset = list(ranks)[index % CLASSES]
        name = odd.pop(synset, f'{synset}_{index + 1}.JPEG')
        classes.setdefault(f'{synset}.tar', {})[name] = encode(name, ranks[synset] % CLASSES, 0, index)
    images = {}
    for index in reversed(range(validation)):  # tfds goes by the sorted names, whatever the order in the archive
        name = f'ILSVRC2012_val_{index + 1:08}.JPEG'
        images[name] = encode(name, ranks[labels[index]] % CLASSES, 1, index)
    return dict(zip(ARCHIVES, (tar({name: tar(files) for name, files in classes.items()}), tar(images))))


def install(archives: dict[str, bytes], data_dir: pathlib.Path) -> list[pathlib.Path]:
    """Writes the archives where tfds looks for them, each whole or not at all, and returns their paths.

    Raises:
      UserError: a path holds something else, tfds has prepared and would go on using another set, or the disk refuses.
    """
    paths = {data_dir / 'downloads' / 'manual' / name: content for name, content in archives.items()}
    try:
        for path, content in paths.items():
            if path.exists() and path.read_bytes() != content:
                raise UserError(f'--out: {path} exists and holds something else; remove it or give another directory')
            if not path.exists() and prepared.is_prepared(data_dir, 'imagenet2012'):
                raise UserError(f'--out: {data_dir} has another imagenet2012 prepared; give another directory')
        for path, content in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as partial:
                partial.write_bytes(content)
    except OSError as error:
        raise UserError(f'--out: cannot write in {data_dir}: {error.strerror}') from None
    return list(paths)


@told
def main(argv: list[str] | None = None) -> int:
    """Makes the set, prints what to do with it, and returns the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument('--out', required=True, type=pathlib.Path, help='the directory to use as data_dir')
    parser.add_argument('--train', default=64, type=int, help='training images (64)')
    parser.add_argument('--validation', default=20, type=int, help='validation images (20)')
    arguments = parser.parse_args(argv)
    out, train, validation = arguments.out.expanduser(), arguments.train, arguments.validation
    if not CLASSES <= train <= 10_000:
        raise UserError(f'--train={train}: give {CLASSES}, an image a class, to 10000')
    if not 1 <= validation <= 50_000:
        raise UserError(f'--validation={validation}: give 1 to 50000, tfds has no more labels')
    paths = install(make_archives(train, validation), out)
    print(f'{train} training images of {CLASSES} classes and {validation} validation images:', *paths, sep='\n  ')
    print(
        'Next:\n  python -m experiments.train --config=configs/imagenet_resnet50.py '
        f'--config.data_dir={shlex.quote(str(out))} --config.batch_size=8 --config.max_steps=8'
    )
    return 0


if __name__ == '__main__':
    run(main)

"""Makes archives of a few images in ImageNet 2012's layout, to try the ImageNet path without the real 150 GB.

  python -m scripts.make_tiny_imagenet --out DIR [--train N] [--validation N] [--classes N] [--seed S]

tensorflow-datasets' real `imagenet2012` builder prepares them from DIR/downloads/manual, offline. The images are
crops of scikit-learn's two photographs. The class decides photograph, place and tint, so there is something to learn.
As in the real set, a few files called .JPEG are CMYK or grayscale, and one is a PNG. The builder knows those it mends
by name, so here they have the real names, in the real classes. Which class a validation image has is tfds's list's
to say, so most validation images are of classes that a small training set lacks. The same arguments give the same
bytes.
"""

import argparse
import collections
import filecmp
import importlib.util
import io
import pathlib
import shlex
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images

from experiments.data import prepared
from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser

TRAIN, VALIDATION = 'ILSVRC2012_img_train.tar', 'ILSVRC2012_img_val.tar'
PNG = ('n02105855_2933.JPEG',)  # what tfds's builder re-encodes, by file name: one PNG ...
CMYK = (  # ... and 22 CMYK JPEGs; the first is the one in every set made here
    *('n02077923_14822.JPEG', 'n01739381_1309.JPEG', 'n02447366_23489.JPEG', 'n02492035_15739.JPEG'),
    *('n02747177_10752.JPEG', 'n03018349_4028.JPEG', 'n03062245_4620.JPEG', 'n03347037_9675.JPEG'),
    *('n03467068_12171.JPEG', 'n03529860_11437.JPEG', 'n03544143_17228.JPEG', 'n03633091_5218.JPEG'),
    *('n03710637_5125.JPEG', 'n03961711_5286.JPEG', 'n04033995_2932.JPEG', 'n04258138_17003.JPEG'),
    *('n04264628_27969.JPEG', 'n04336792_7448.JPEG', 'n04371774_5854.JPEG', 'n04596742_4225.JPEG'),
    *('n07583066_647.JPEG', 'n13037406_4650.JPEG'),
)
_SIZES = ((500, 375), (375, 500), (500, 333), (333, 500), (400, 400), (256, 192), (640, 240), (120, 320), (75, 56))
_PLACES = ((0, 0), (1, 1), (0.5, 0), (0, 1), (1, 0), (0.5, 1))  # 0: left or top, 1: right or bottom
_GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 keep apart from each other
_MOST_OF_A_CLASS, _MOST_TO_VALIDATE = 1300, 50_000  # as in the real set


def parse(argv: list[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
      UserError: a flag that does not exist, or a number that makes no set.
    """
    parser = Parser(description=__doc__)
    parser.add_argument('--out', required=True, type=pathlib.Path, help='the data_dir to be')
    parser.add_argument('--train', default=64, type=int, help='training images (64)')
    parser.add_argument('--validation', default=20, type=int, help='validation images (20)')
    parser.add_argument('--classes', default=8, type=int, help='classes of the training images (8)')
    parser.add_argument('--seed', default=0, type=int, help='0 or more (0)')
    arguments = parser.parse_args(argv)
    arguments.out = arguments.out.expanduser()
    if not 2 <= arguments.classes <= 1000:
        raise UserError(f'--classes={arguments.classes}: give 2 (the CMYK and the PNG image have theirs) to 1000')
    least, most = arguments.classes, arguments.classes * _MOST_OF_A_CLASS
    if not least <= arguments.train <= most:
        raise UserError(f'--train={arguments.train}: {arguments.classes} classes take {least} to {most} images')
    if not 1 <= arguments.validation <= _MOST_TO_VALIDATE:
        raise UserError(f'--validation={arguments.validation}: give 1 to {_MOST_TO_VALIDATE}, tfds has no more labels')
    if arguments.seed < 0:
        raise UserError(f'--seed={arguments.seed}: give 0 or more')
    return arguments


def read_labels() -> tuple[list[str], list[str]]:
    """The 1,000 synsets and those of the validation images, from tfds's files but without its slow import."""
    package = pathlib.Path(importlib.util.find_spec('tensorflow_datasets').origin).parent / 'datasets/imagenet2012'
    return tuple((package / name).read_text().split() for name in ('labels.txt', 'validation_labels.txt'))


def choose_classes(count: int, synsets: list[str], validation: list[str]) -> list[str]:
    """The classes to train on: those of the odd files, then the commonest in validation, then any."""
    commonest = [synset for synset, _ in collections.Counter(validation).most_common()]
    odd = [name.split('_')[0] for name in (PNG[0], CMYK[0])]
    return list(dict.fromkeys([*odd, *commonest, *synsets]))[:count]


def draw(photographs: list[Image.Image], rank: int, random: np.random.Generator) -> Image.Image:
    """A crop of the class's photograph around the class's place, in the class's tint and any size."""
    photograph = photographs[rank % len(photographs)]
    size = np.array(_SIZES[random.integers(len(_SIZES))])
    crop = size * min(photograph.size / size) * random.uniform(0.4, 0.7)
    place = _PLACES[rank // len(photographs) % len(_PLACES)] + random.uniform(-0.15, 0.15, 2)
    corner = np.clip(place, 0, 1) * (photograph.size - crop)
    image = photograph.resize(tuple(size.tolist()), Image.Resampling.BICUBIC, box=(*corner, *(corner + crop)))
    if random.random() < 0.5:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    _, saturation, value = image.convert('HSV').split()
    hue = Image.new('L', image.size, int(256 * (rank * _GOLDEN + random.uniform(-0.02, 0.02))) % 256)
    tinted = Image.merge('HSV', (hue, saturation.point(lambda level: max(level, 120)), value)).convert('RGB')
    return Image.blend(image, tinted, 0.6)


def encode(image: Image.Image, name: str, index: int, random: np.random.Generator) -> bytes:
    """The file of an image: what its name promises to the builder, else every 17th grayscale, else RGB."""
    file = io.BytesIO()
    if name in PNG:
        image.save(file, 'PNG')
    else:
        mode = 'CMYK' if name in CMYK else 'L' if index % 17 == 2 else 'RGB'
        image.convert(mode).save(file, 'JPEG', quality=int(random.integers(70, 96)))
    return file.getvalue()


def training_names(synset: str, count: int, random: np.random.Generator) -> list[str]:
    """The file names of a class, numbered without order as in the real set; an odd file comes first."""
    odd = [name for name in (*PNG, *CMYK) if name.startswith(synset)]
    numbers = 1 + random.choice(30_000, count + len(odd), replace=False)
    return list(dict.fromkeys([*odd, *(f'{synset}_{number}.JPEG' for number in numbers)]))[:count]


def training_set(arguments, classes, ranks, photographs) -> Iterator[tuple[str, bytes]]:
    """The tar of every class; the images go round the classes."""
    for position, synset in enumerate(classes):
        indices = range(position, arguments.train, len(classes))
        names = training_names(synset, len(indices), np.random.default_rng((arguments.seed, 0, ranks[synset])))
        images = []
        for index, name in zip(indices, names):
            random = np.random.default_rng((arguments.seed, 1, index))
            images.append((name, encode(draw(photographs, ranks[synset], random), name, index, random)))
        archive = io.BytesIO()
        write_tar(archive, images)
        yield f'{synset}.tar', archive.getvalue()


def validation_set(arguments, labels, ranks, photographs) -> Iterator[tuple[str, bytes]]:
    """Images that tfds labels by their place among the sorted names; stored out of order, as in the real set."""
    for index in np.random.default_rng((arguments.seed, 2)).permutation(len(labels)):
        random = np.random.default_rng((arguments.seed, 3, index))
        name = f'ILSVRC2012_val_{index + 1:08}.JPEG'
        yield name, encode(draw(photographs, ranks[labels[index]], random), name, index, random)


def write_tar(file: io.IOBase, members: Iterable[tuple[str, bytes]]) -> None:
    """A tar without directories, owners or times: the builder takes every member for an image."""
    with tarfile.open(fileobj=file, mode='w', format=tarfile.GNU_FORMAT) as tar:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))


def install(archives: dict[str, Iterable[tuple[str, bytes]]], data_dir: pathlib.Path) -> list[pathlib.Path]:
    """Writes the archives where the builder looks for them, whole or not at all, over nothing of other content.

    Raises:
      UserError: other archives lie there, or tfds has prepared others, which it would go on using.
    """
    manual = data_dir / 'downloads' / 'manual'
    has_a_set = prepared.is_prepared(data_dir, 'imagenet2012')
    manual.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix='.unfinished-', dir=manual) as unfinished:
        written = {}
        for name, members in archives.items():
            written[manual / name] = pathlib.Path(unfinished, name)
            with written[manual / name].open('wb') as file:
                write_tar(file, members)
        for path, new in written.items():
            if path.exists() and not filecmp.cmp(path, new, shallow=False):
                raise UserError(f'--out: {path} exists and holds something else; remove it or give another directory')
            if has_a_set and not path.exists():
                raise UserError(f'--out: {data_dir} has another imagenet2012 prepared; give another directory')
        for path, new in written.items():
            new.replace(path)
    return list(written)


def make(arguments: argparse.Namespace) -> str:
    """Makes the set and says what there is and what to do with it."""
    synsets, labels = read_labels()
    labels = labels[: arguments.validation]
    classes = choose_classes(arguments.classes, synsets, labels)
    ranks = {synset: rank for rank, synset in enumerate(dict.fromkeys([*classes, *synsets]))}
    photographs = [Image.fromarray(photograph) for photograph in load_sample_images().images]
    archives = {
        TRAIN: training_set(arguments, classes, ranks, photographs),
        VALIDATION: validation_set(arguments, labels, ranks, photographs),
    }
    try:
        paths = install(archives, arguments.out)
    except OSError as error:
        raise UserError(f'--out: cannot write in {arguments.out}: {error.strerror or error}') from None
    known = sum(label in classes for label in labels)
    return '\n'.join(
        [
            f'{arguments.train} training images of {len(classes)} classes and {len(labels)} validation images, '
            f'{known} of them of these classes:',
            *(f'  {path} ({path.stat().st_size / 1e6:.1f} MB)' for path in paths),
            'Next:',
            '  python -m experiments.train --config=configs/imagenet_resnet50.py '
            f'--config.data_dir={shlex.quote(str(arguments.out))} '
            f'--config.batch_size={min(8, arguments.train)} --config.max_steps=8',
        ]
    )


def main(argv: list[str] | None = None) -> int:
    try:
        print(make(parse(argv)))
    except UserError as error:
        return tell(error)
    return 0


if __name__ == '__main__':
    sys.exit(main())

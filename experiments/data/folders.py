"""A folder of images as a data set in memory: DIR/{train,validation|val|test}/CLASS/*.{jpg,png,...}.

The classes are the names of their folders, in alphabetical order. Of several validation splits the first is taken, in
the order above. Hidden files, and what is no image by its suffix, are ignored; links are followed.
"""

import functools
import itertools
import os
import pathlib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from tqdm import tqdm

from experiments.data import memory, pictures
from experiments.data.arrays import SPLITS, Arrays
from experiments.data.transforms import PHOTOGRAPHS
from experiments.errors import UserError

_VALIDATION = ('validation', 'val', 'test')
_SHOWN = 3  # names, of many
Paths = list[pathlib.Path]


@functools.lru_cache(maxsize=1)  # a ladder and a sweep read the same folder many times
def read(directory: str, image_size: int) -> Arrays:
    """Returns the images of a folder, uint8 (n, height, width, 3), and their labels.

    Args:
      directory: the folder; ~ is the user's home.
      image_size: pixels a side at most. Images that all have one size, up to that, stay as they are. Others are
        resized to it on their shorter side, and their central square is taken.

    Raises:
      UserError: the folder is no such data set, a file is no image, or they do not fit in memory.
    """
    root = pathlib.Path(os.path.expanduser(directory))
    classes = _classes(root)
    files = {split: list(itertools.chain(*of_class)) for split, of_class in classes.items()}
    height, width = _size(root, list(itertools.chain(*files.values())), image_size)
    images = {split: _pixels(paths, (height, width)) for split, paths in files.items()}
    labels = {split: np.repeat(np.arange(len(each)), list(map(len, each))) for split, each in classes.items()}
    return Arrays(images, {split: each.astype(np.int32) for split, each in labels.items()}, transforms=PHOTOGRAPHS)


def _classes(root: pathlib.Path) -> dict[str, list[Paths]]:
    """Returns by split the files of every class.

    Raises:
      UserError: a split, a class or its images are missing, or the splits have different classes.
    """
    there = _folders(root)
    training, validation = there.get('train'), next((there[name] for name in _VALIDATION if name in there), None)
    for folder, wanted in ((training, 'train'), (validation, 'validation, val or test')):
        if folder is None:
            raise UserError(f'dataset: no folder {wanted} in {root}, {_some(there)}. Images go in {root}/train/CLASS/')
    train, others = _folders(training), _folders(validation)
    if len(train) < 2:
        raise UserError(f'dataset: {training} needs a folder of images for each of two classes or more, {_some(train)}')
    if train.keys() != others.keys():
        lack = [(training, others.keys() - train.keys()), (validation, train.keys() - others.keys())]
        said = ', and '.join(f'{folder} lacks {_listed(names)}' for folder, names in lack if names)
        raise UserError(f'dataset: {said}. Both need the same classes')
    return dict(zip(SPLITS, ([_images(folder) for folder in split.values()] for split in (train, others))))


def _folders(folder: pathlib.Path) -> dict[str, pathlib.Path]:
    """Returns the folders in a folder by name, in alphabetical order."""
    return {path.name: path for path in _entries(folder) if path.is_dir()}


def _images(folder: pathlib.Path) -> Paths:
    """Returns the images in a folder, in alphabetical order.

    Raises:
      UserError: there are none.
    """
    found = [path for path in _entries(folder) if path.suffix.lower() in pictures.SUFFIXES]
    if not found:
        raise UserError(f'dataset: no images in {folder}. Its class needs some ({", ".join(pictures.SUFFIXES)})')
    return found


def _entries(folder: pathlib.Path) -> Paths:
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith('.'))
    except OSError as error:
        raise UserError(
            f'dataset: cannot read the folder {folder}: {error.strerror}. folder:DIR needs images in DIR/train/CLASS/ '
            'and DIR/validation/CLASS/'
        ) from error


def _some(names: Sequence[str]) -> str:
    return f'which has {_listed(names)}' if names else 'which has no folders'


def _listed(names: Iterable[str]) -> str:
    shown = sorted(names)
    return ', '.join(shown[:_SHOWN]) + (f' and {len(shown) - _SHOWN} more' if shown[_SHOWN:] else '')


def _size(root: pathlib.Path, files: Paths, image_size: int) -> tuple[int, int]:
    """Returns the (height, width) that images are brought to.

    Raises:
      UserError: so many do not fit in memory.
    """
    sizes = set(_in_threads(pictures.size, files, f'Looking through {root.name}'))
    fit = len(sizes) == 1 and all(max(size) <= image_size for size in sizes)
    height, width = sizes.pop() if fit else (image_size, image_size)
    subject = f'dataset: {root}, {len(files)} images of {height}x{width},'
    memory.require(len(files) * height * width * 3, subject, 'Lower --config.image_size, or use fewer images')
    return height, width


def _pixels(files: Paths, size: tuple[int, int]) -> np.ndarray:
    images = np.empty((len(files), *size, 3), np.uint8)

    def place(row: int) -> None:
        images[row] = pictures.read(files[row], size)

    _in_threads(place, range(len(files)), f'Reading {files[0].parents[1].name}')
    return images


def _in_threads(function: Callable, items: Sequence, label: str) -> list:
    """Returns what a function gives for each item, called in several threads; a bar shows how far it is."""
    with ThreadPoolExecutor() as pool:
        return list(tqdm(pool.map(function, items), label, len(items), unit=' files', leave=False, disable=None))

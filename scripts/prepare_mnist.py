"""Turns the four idx files of MNIST or Fashion-MNIST into a prepared dataset of tensorflow-datasets (tfds).

This is for machines without internet:

  python -m scripts.prepare_mnist --idx-dir DIR [--data-dir DIR] [--name mnist|fashion_mnist]
"""

import gzip
import math
import pathlib
import struct
import zlib

import numpy as np

from experiments.command import run, told
from experiments.data import memory, prepared
from experiments.errors import UserError
from experiments.setup.arguments import Parser

FILES = {
    'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
}
VERSIONS = {'mnist': '3.0.1', 'fashion_mnist': '3.0.1'}
CLASSES = 10
_UNSIGNED_BYTES = 0x800  # how an idx file begins, plus its number of axes


def read_idx(directory: pathlib.Path, name: str, example: tuple[int, ...]) -> np.ndarray:
    """Returns the uint8 of an idx file, (n, *example), which may be compressed with gzip.

    Raises:
      UserError: there is no such file, it is damaged, holds something else, or says that it is larger than the memory.
    """
    path = next((path for path in (directory / name, directory / f'{name}.gz') if path.is_file()), None)
    if path is None:
        raise UserError(f'no {name} or {name}.gz in {directory}')
    try:
        with path.open('rb') as raw:
            compressed = raw.read(2) == b'\x1f\x8b'
        with gzip.open(path) if compressed else path.open('rb') as file:
            rank = 1 + len(example)
            magic, *shape = struct.unpack(f'>{1 + rank}I', file.read(4 + 4 * rank))
            if magic != _UNSIGNED_BYTES + rank or tuple(shape[1:]) != example:
                raise ValueError(f'it begins with {magic:#x}, {shape}')
            size = math.prod(shape)
            memory.require(size, f'{path}, or so it says,', 'Get it again')
            content = file.read(size + 1)  # a bomb is not unpacked; at its end gzip compares a checksum
            if len(content) != size:
                raise ValueError('cut off' if len(content) < size else 'longer than it says')
    except (ValueError, EOFError, OSError, zlib.error, struct.error) as error:
        wanted = 'x'.join(map(str, ('n', *example)))
        raise UserError(
            f'cannot read {path} ({error}): no idx file of {wanted} bytes, or damaged. Get it again'
        ) from error
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_splits(directory: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns images (n, 28, 28, 1) and labels (n,) below 10, both uint8, by split: 'train' and 'test'.

    Raises:
      UserError: a file is missing or damaged, or does not hold what MNIST's does.
    """
    splits = {}
    for split, (image_file, label_file) in FILES.items():
        images, labels = read_idx(directory, image_file, (28, 28)), read_idx(directory, label_file, ())
        if len(images) != len(labels) or not len(labels):
            raise UserError(
                f'{directory}: {len(images)} {split} images and {len(labels)} labels do not belong together'
            )
        if labels.max() >= CLASSES:
            index = int(labels.argmax())
            raise UserError(
                f'{directory / label_file}: label {index} is {labels[index]}, above {CLASSES - 1}. Get it again'
            )
        splits[split] = images[..., None], labels
    return splits


def _examples(images: np.ndarray, labels: np.ndarray) -> list[tuple[int, dict]]:
    return [(key, {'image': image, 'label': int(label)}) for key, (image, label) in enumerate(zip(images, labels))]


def _features(features) -> dict:
    return {'image': features.Image(shape=(28, 28, 1)), 'label': features.ClassLabel(num_classes=CLASSES)}


@told
def main(argv: list[str] | None = None) -> int:
    """Prepares the dataset, unless it is there already, and returns the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument('--idx-dir', required=True, type=pathlib.Path, help='the directory of the idx files')
    parser.add_argument('--data-dir', default='', help='the directory of prepared datasets (the default of tfds)')
    parser.add_argument('--name', default='mnist', choices=VERSIONS)
    arguments = parser.parse_args(argv)
    splits = read_splits(arguments.idx_dir)
    directory = prepared.tfds_directory(arguments.data_dir)
    if prepared.is_prepared(directory, arguments.name):
        print(f'{arguments.name} is already prepared in {directory}')
        return 0
    print(f'Preparing {arguments.name} from the files in {arguments.idx_dir}', flush=True)
    examples = {split: _examples(*arrays) for split, arrays in splits.items()}
    folder = prepared.store(directory, arguments.name, VERSIONS[arguments.name], examples, _features)
    counts = ', '.join(f'{len(labels)} {split}' for split, (_, labels) in splits.items())
    print(f'{arguments.name}: {counts} examples in {folder}')
    return 0


if __name__ == '__main__':
    run(main)

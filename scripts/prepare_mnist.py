"""Turns the four idx files of MNIST or Fashion-MNIST into a prepared dataset of tensorflow-datasets (tfds).

This is for machines without internet:

  python -m scripts.prepare_mnist --idx-dir DIR [--data-dir DIR] [--name mnist|fashion_mnist]
"""

import gzip
import pathlib

import numpy as np

from experiments.command import run, told
from experiments.data import prepared
from experiments.errors import UserError
from experiments.setup.arguments import Parser

FILES = {
    'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
}
VERSIONS = {'mnist': '3.0.1', 'fashion_mnist': '3.0.1'}


def read_idx(directory: pathlib.Path, name: str) -> np.ndarray:
    """Returns the array of uint8 in an idx file, which may be compressed with gzip.

    Raises:
      UserError: there is no such file, or it is damaged.
    """
    path = next((path for path in (directory / name, directory / f'{name}.gz') if path.is_file()), None)
    if path is None:
        raise UserError(f'no {name} or {name}.gz in {directory}')
    try:
        raw = path.read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b'\x1f\x8b' else raw
        rank = raw[3]
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(np.frombuffer(raw, '>i4', rank, offset=4))
    except (ValueError, IndexError, EOFError, OSError) as error:
        raise UserError(f'cannot read {path}: not an idx file of unsigned bytes, or cut off ({error})') from None


def read_splits(directory: pathlib.Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns images (n, 28, 28, 1) and labels (n,), both uint8, by split: 'train' and 'test'.

    Raises:
      UserError: a file is missing or damaged, or has other shapes than MNIST's.
    """
    splits = {}
    for split, (images, labels) in FILES.items():
        images, labels = read_idx(directory, images), read_idx(directory, labels)
        if images.shape != (*labels.shape, 28, 28):
            raise UserError(f'the {split} images and labels in {directory} do not belong together')
        splits[split] = images[..., None], labels
    return splits


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
    tfds = prepared.import_tfds()
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name=arguments.name,
        version=VERSIONS[arguments.name],
        data_dir=str(directory),
        split_datasets={
            split: [(key, {'image': image, 'label': int(label)}) for key, (image, label) in enumerate(zip(*arrays))]
            for split, arrays in splits.items()
        },
        features=tfds.features.FeaturesDict(
            {'image': tfds.features.Image(shape=(28, 28, 1)), 'label': tfds.features.ClassLabel(num_classes=10)}
        ),
    )
    counts = ', '.join(f'{len(labels)} {split}' for split, (_, labels) in splits.items())
    print(f'{arguments.name}: {counts} examples in {builder.data_dir}')
    return 0


if __name__ == '__main__':
    run(main)

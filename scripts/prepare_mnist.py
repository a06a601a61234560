"""Turns the four idx files of MNIST or Fashion-MNIST into a prepared tensorflow-datasets dataset.

For machines without internet:

  python -m scripts.prepare_mnist --idx-dir DIR [--data-dir DIR] [--name mnist|fashion_mnist]
"""

import gzip
import pathlib
import sys

import numpy as np

from experiments.data import prepared
from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser

FILES = {
    'train': ('train-images-idx3-ubyte', 'train-labels-idx1-ubyte'),
    'test': ('t10k-images-idx3-ubyte', 't10k-labels-idx1-ubyte'),
}
VERSIONS = {'mnist': '3.0.1', 'fashion_mnist': '3.0.1'}


def read_idx(directory: pathlib.Path, name: str) -> np.ndarray:
    """The array of unsigned bytes in an idx file, plain or gzip.

    Raises:
      UserError: no such file, or not a sound one.
    """
    found = [path for path in (directory / name, directory / f'{name}.gz') if path.is_file()]
    if not found:
        raise UserError(f'no {name} or {name}.gz in {directory}')
    try:
        raw = found[0].read_bytes()
        raw = gzip.decompress(raw) if raw[:2] == b'\x1f\x8b' else raw
        rank = raw[3]
        shape = np.frombuffer(raw, '>i4', rank, offset=4)
        if raw[:3] != b'\0\0\x08' or len(raw) != 4 + 4 * rank + shape.prod():
            raise ValueError('not an idx file of unsigned bytes, or cut off')
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)
    except (ValueError, IndexError, EOFError, OSError) as error:
        raise UserError(f'cannot read {found[0]}: {error}') from None


def read_splits(directory: pathlib.Path) -> dict[str, list[tuple[int, dict]]]:
    """The (key, example) pairs of both splits, as tfds stores them."""
    splits = {}
    for split, (images, labels) in FILES.items():
        images, labels = read_idx(directory, images), read_idx(directory, labels)
        if images.ndim != 3 or images.shape[1:] != (28, 28) or labels.shape != images.shape[:1]:
            raise UserError(f'the {split} images and labels in {directory} do not belong together')
        splits[split] = [
            (key, {'image': image[..., None], 'label': int(label)})
            for key, (image, label) in enumerate(zip(images, labels))
        ]
    return splits


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--idx-dir', required=True, type=pathlib.Path, help='where the idx files lie')
    parser.add_argument('--data-dir', default='', help="where tfds keeps its data; by default tfds's own")
    parser.add_argument('--name', default='mnist', choices=VERSIONS)
    try:
        arguments = parser.parse_args(argv)
        splits = read_splits(arguments.idx_dir)
    except UserError as error:
        return tell(error)
    directory = prepared.tfds_directory(arguments.data_dir)
    if prepared.is_prepared(directory, arguments.name):
        print(f'{arguments.name} is already prepared in {directory}')
        return 0
    tfds = prepared.import_tfds()
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name=arguments.name,
        version=VERSIONS[arguments.name],
        data_dir=str(directory),
        split_datasets=splits,
        features=tfds.features.FeaturesDict(
            {'image': tfds.features.Image(shape=(28, 28, 1)), 'label': tfds.features.ClassLabel(num_classes=10)}
        ),
    )
    counts = ', '.join(f'{len(examples)} {split}' for split, examples in splits.items())
    print(f'{arguments.name}: {counts} examples in {builder.data_dir}')
    return 0


if __name__ == '__main__':
    sys.exit(main())

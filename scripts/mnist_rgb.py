"""Writes MNIST as 48x48 colour images in one .npz: real data on which a CPU trains a ResNet-50 in an hour.

  python -m scripts.mnist_rgb --idx-dir DIR --out FILE.npz [--train N] [--validation N]

The digits are enlarged and repeated over three channels. At 32x32 a ResNet-50 would be dead: its blocks begin as the
identity, so its last stage sees the image through strided 1x1 convolutions alone, at multiples of 32 pixels, where a
smaller MNIST image has nothing but its black corner.
"""

import pathlib
import sys

import numpy as np
from PIL import Image

from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser, count
from scripts.prepare_mnist import FILES, read_splits

SIZE = 48  # pixels a side


def colour(image: np.ndarray) -> np.ndarray:
    """(28, 28, 1) uint8 -> (SIZE, SIZE, 3) uint8."""
    enlarged = Image.fromarray(image[..., 0]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(enlarged)[..., None], 3, axis=-1)


def arrays(splits: dict[str, list[tuple[int, dict]]], counts: dict[str, int]) -> dict[str, np.ndarray]:
    """The arrays of a dataset file: the first so many images of both splits."""
    found = {}
    for split, (name, size) in zip(FILES, counts.items()):
        examples = [example for _, example in splits[split][:size]]
        found[f'{name}_images'] = np.stack([colour(example['image']) for example in examples])
        found[f'{name}_labels'] = np.array([example['label'] for example in examples], np.int32)
    return found


def main(argv: list[str] | None = None) -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--idx-dir', required=True, type=pathlib.Path, help='where the idx files lie')
    parser.add_argument('--out', required=True, type=pathlib.Path, help='the .npz to write')
    parser.add_argument('--train', default=10_000, type=count, help='images to train on (10000)')
    parser.add_argument('--validation', default=1_000, type=count, help='test images to validate on (1000)')
    try:
        arguments = parser.parse_args(argv)
        counts = {'train': arguments.train, 'validation': arguments.validation}
        splits = read_splits(arguments.idx_dir)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(arguments.out, **arrays(splits, counts))
    except OSError as error:
        return tell(UserError(f'--out: cannot write {arguments.out}: {error.strerror}'))
    except UserError as error:
        return tell(error)
    print(arguments.out)
    return 0


if __name__ == '__main__':
    sys.exit(main())

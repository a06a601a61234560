"""Writes MNIST as 48x48 colour images in one .npz: real data on which a CPU trains a ResNet-50 in an hour.

  python -m scripts.mnist_rgb --idx-dir DIR --out FILE.npz [--train N] [--validation N]

The digits are enlarged and repeated over three channels. A ResNet-50 would learn nothing from 32x32 images. Its blocks
begin as the identity, so its last stage sees the image only through strided 1x1 convolutions, at multiples of 32
pixels; a smaller image has only its black corner there.
"""

import pathlib

import numpy as np
from PIL import Image

from experiments.command import run
from experiments.errors import UserError, tell
from experiments.setup.arguments import Parser, count
from scripts.prepare_mnist import read_splits

SIZE = 48  # pixels a side


def colour(image: np.ndarray) -> np.ndarray:
    """Returns a (28, 28, 1) uint8 image as (SIZE, SIZE, 3) uint8."""
    enlarged = Image.fromarray(image[..., 0]).resize((SIZE, SIZE), Image.Resampling.BICUBIC)
    return np.repeat(np.asarray(enlarged)[..., None], 3, axis=-1)


def main(argv: list[str] | None = None) -> int:
    """Writes the file, prints its path, and returns the exit code."""
    parser = Parser(description=__doc__)
    parser.add_argument('--idx-dir', required=True, type=pathlib.Path, help='the directory of the idx files')
    parser.add_argument('--out', required=True, type=pathlib.Path, help='the .npz to write')
    parser.add_argument('--train', default=10_000, type=count, help='images to train on (10000)')
    parser.add_argument('--validation', default=1_000, type=count, help='test images to validate on (1000)')
    try:
        arguments = parser.parse_args(argv)
        splits, arrays = read_splits(arguments.idx_dir), {}
        for name, split, size in (('train', 'train', arguments.train), ('validation', 'test', arguments.validation)):
            images, labels = splits[split]
            arrays[f'{name}_images'] = np.stack([colour(image) for image in images[:size]])
            arrays[f'{name}_labels'] = labels[:size].astype(np.int32)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        np.savez_compressed(arguments.out, **arrays)
    except OSError as error:
        return tell(UserError(f'--out: cannot write {arguments.out}: {error.strerror}'))
    except UserError as error:
        return tell(error)
    print(arguments.out)
    return 0


if __name__ == '__main__':
    run(main)

"""Data sets of noise, for what does not depend on what the images show."""

import pathlib

import numpy as np


def save_noise(
    path: pathlib.Path, image_shape: tuple[int, int, int], classes: int, training: int, validation: int
) -> pathlib.Path:
    """Writes an .npz data set of so many uint8 images (height, width, channels) and labels; returns its path."""
    generator, arrays = np.random.default_rng(0), {}
    for split, size in (('train', training), ('validation', validation)):
        arrays[f'{split}_images'] = generator.integers(0, 256, (size, *image_shape), np.uint8)
        arrays[f'{split}_labels'] = generator.integers(0, classes, size).astype(np.int32)
    np.savez(path, **arrays)
    return path

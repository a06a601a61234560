"""What is done to the images of a data set in memory on their way to the model."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from experiments.data import augmentation, classification
from experiments.data.normalization import normalize


def scaled(images: np.ndarray) -> np.ndarray:
    """Images, also those on a device, as float32: uint8 in [0, 1], floats as they are."""
    return images.astype(np.float32) / np.float32(255) if images.dtype == np.uint8 else images


@dataclasses.dataclass(frozen=True)
class Transforms:
    """The three places at which images may be changed.

    Attributes:
      augment: in training, on the host: images and (n, augmentation.DRAWS) uniform numbers -> images.
      send: on the host, at last: images as they are stored -> as they travel to the device.
      normalize: on the device: images that have arrived -> what the model reads.
    """

    augment: Callable[[np.ndarray, np.ndarray], np.ndarray] = augmentation.as_they_are
    send: Callable[[np.ndarray], np.ndarray] = scaled
    normalize: Callable[[jax.Array], jax.Array] = classification.as_they_are


PLAIN = Transforms()
PHOTOGRAPHS = Transforms(augmentation.crop_and_flip, np.asarray, normalize)  # a byte a channel is a quarter of a float

"""Random crops and flips of photographs, each a function of three uniform numbers: whoever draws them has the order."""

import numpy as np

DRAWS = 3  # numbers an image: how far down, how far to the right, flipped or not
_PADDING = 8  # an eighth of a side: 4 pixels of 32


def as_they_are(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Returns images unchanged: the augmentation of data sets that have none."""
    return images


def crop_and_flip(images: np.ndarray, draws: np.ndarray) -> np.ndarray:
    """Returns images of the same shape, cropped out of a black frame an eighth of a side wide, half of them mirrored.

    The usual augmentation for CIFAR-10 (He et al. 2015, section 4.2), with the frame added to the pixels, as PyTorch's
    `RandomCrop(32, padding=4)` and `RandomHorizontalFlip()` do.

    Args:
      images: (n, height, width, channels) uint8.
      draws: (n, DRAWS) in [0, 1).
    """
    count, height, width, channels = images.shape
    above, left = height // _PADDING, width // _PADDING
    framed = np.pad(images, [(0, 0), (above, above), (left, left), (0, 0)])
    top = (draws[:, 0] * (2 * above + 1)).astype(np.intp)
    start = (draws[:, 1] * (2 * left + 1)).astype(np.intp)
    # A row of a crop is one run of bytes in memory, and is copied as such: several times faster than by pixels.
    runs = np.lib.stride_tricks.sliding_window_view(framed.reshape(count, height + 2 * above, -1), width * channels, 2)
    rows = top[:, None] + np.arange(height)
    cropped = runs[np.arange(count)[:, None], rows, channels * start[:, None]].reshape(images.shape)
    flipped = draws[:, 2] < 0.5
    cropped[flipped] = cropped[flipped, :, ::-1]
    return cropped

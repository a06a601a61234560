"""Which arrays are images: their dtype, layout and scale, and what to do about those that are none.

Every refusal is a ValueError, a line that begins with the array's name.
"""

import dataclasses
import math

import numpy as np

_CHANNELS = (1, 2, 3, 4)  # of pictures; an axis of another length is taken for rows or columns
_ROWS_AT_ONCE = 2**22  # numbers looked at together, so that no copy of the whole is made
_LARGE = 10  # no images on a usual scale are so large: those of mean 0 and deviation 1 have a root mean square of 1
_DIM = 0.1  # the whole span of images so faint that a division too many is likelier
_ALIKE = 8  # times, between the root mean squares of two splits on one scale


@dataclasses.dataclass(frozen=True)
class Spread:
    """Smallest, largest and root mean square of images as batches have them, which is uint8 divided by 255."""

    low: float
    high: float
    rms: float

    def __str__(self):
        return f'{self.low:.4g} to {self.high:.4g}'


def check_dtype(name: str, dtype: np.dtype) -> None:
    """Refuses what is neither uint8 nor floats nor bool.

    Raises:
      ValueError: with what to save instead.
    """
    if dtype.kind in 'iu' and dtype != np.uint8:
        raise ValueError(
            f'{name} holds {dtype}, whose scale nobody knows. Save images of 0 to 255 as .astype(np.uint8), and '
            'others as float32, divided by the value of white'
        )
    if dtype.kind not in 'ufb':
        raise ValueError(f'{name} holds {_short(dtype)}, no pixels. Save images as uint8 (0 to 255) or float32')


def _short(dtype: np.dtype) -> str:
    return 'text' if dtype.kind in 'US' else 'records' if dtype.names else f'{dtype}'


def layout(name: str, shape: tuple[int, ...]) -> str:
    """Returns how the axes of images are meant: 'as they are', 'gray' (no channels) or 'channels first'.

    Raises:
      ValueError: the shape is none of images, or may be meant in two ways.
    """
    wanted = 'Save it as (n, height, width, channels)'
    if 0 in shape[1:]:
        raise ValueError(f'{name} has shape {shape}: an axis has length 0. {wanted}')
    if len(shape) == 2:
        raise ValueError(f'{name} has shape {shape}: flat images. Save it as .reshape({_unflattened(shape[1])})')
    if len(shape) == 3:
        return 'gray'
    if len(shape) != 4:
        raise ValueError(f'{name} has shape {shape}, which is not of images. {wanted}')
    _, first, rows, last = shape
    if first not in _CHANNELS or last in _CHANNELS or first == rows:
        return 'as they are'
    if rows == last:
        return 'channels first'
    raise ValueError(f'{name} has shape {shape}: the channels may be first or last. {wanted}')


def _unflattened(pixels: int) -> str:
    """The likeliest shape of images of so many numbers."""
    for channels in (1, 3):
        side = math.isqrt(pixels // channels)
        if side * side * channels == pixels:
            return f'-1, {side}, {side}, {channels}' + (
                f'), or .reshape(-1, 3, {side}, {side}).transpose(0, 2, 3, 1' if channels == 3 else ''
            )
    return '-1, height, width, channels'


def as_batches_want(images: np.ndarray, meant: str) -> np.ndarray:
    """Returns images (n, height, width, channels), from a layout that `layout` has found."""
    match meant:
        case 'gray':
            return images[..., None]
        case 'channels first':
            return np.moveaxis(images, 1, -1)
    return images


def as_floats(name: str, images: np.ndarray) -> tuple[np.ndarray, Spread]:
    """Returns images as uint8 or float32, in the layout that they have, and their spread.

    Raises:
      ValueError: a number is not finite in float32; the first of its split is named by its index.
    """
    with np.errstate(over='ignore'):
        made = images if images.dtype == np.uint8 else images.astype(np.float32, copy=False)
    lows, highs, squares = [], [], 0.0
    rows = max(1, _ROWS_AT_ONCE // made[0].size)
    for start in range(0, len(made), rows):
        part = made[start : start + rows].astype(np.float32, copy=False)
        low, high = float(part.min()), float(part.max())
        if not math.isfinite(low) or not math.isfinite(high):
            index = tuple(map(int, np.argwhere(~np.isfinite(part))[0]))
            index = (start + index[0], *index[1:])
            raise ValueError(
                f'{name}{list(index)} is {images[index]:g}, not finite in float32. Mend or leave out that image'
            )
        lows.append(low)
        highs.append(high)
        squares += float(np.square(part, dtype=np.float64).sum())
    unit = 255 if made.dtype == np.uint8 else 1
    return made, Spread(min(lows) / unit, max(highs) / unit, math.sqrt(squares / made.size) / unit)


def check_scale(name: str, spread: Spread) -> None:
    """Refuses floats on a scale on which nothing trains.

    Raises:
      ValueError: with how to bring them to a usual one.
    """
    if spread.low >= 0 and spread.high > _LARGE:
        white = 255 if _LARGE**2 < spread.high <= 255 else spread.high
        also = ', or, if it is of whole numbers, save it as uint8' if white == 255 else ''
        raise ValueError(f'{name} holds floats of {spread}, which are taken as they are. Divide it by {white:g}{also}')
    if spread.rms > _LARGE:
        raise ValueError(
            f'{name} holds floats of {spread}, with a root mean square of {spread.rms:.4g}, which are taken as they '
            'are. Subtract the mean and divide by the standard deviation, those of train for both splits'
        )


def check_alike(names: dict[str, str], spreads: dict[str, Spread]) -> None:
    """Refuses training and validation images on different scales; both by split, the names of their arrays first.

    Raises:
      ValueError: with both spreads.
    """
    one, two = spreads.values()
    if not one.rms or not two.rms:
        return  # black
    ratio = max(one.rms, two.rms) / min(one.rms, two.rms)
    signed = [spread.low < -_DIM * (spread.high - spread.low) for spread in (one, two)]
    if ratio > _ALIKE or (signed[0] != signed[1] and max(one.low, two.low) >= 0):
        shown = ', and '.join(f'{names[split]} of {spread}' for split, spread in spreads.items())
        raise ValueError(f'{shown}, are on different scales. Scale both in the same way (uint8 counts as 0 to 1)')


def faintness(name: str, spread: Spread) -> str:
    """Returns a remark on images that span very little; '' on all others."""
    span = spread.high - spread.low
    if not 0 < span < _DIM:
        return ''
    return (
        f'{name} spans only {spread} (uint8 counts as 0 to 1), as if it were divided once too often. '
        'Scale it so that white is 1, or 255 in uint8'
    )

"""One file of a picture: its size, and its pixels as 8-bit colour. Whatever is no such picture is named in one line."""

import contextlib
import pathlib
from collections.abc import Iterator

import numpy as np
from PIL import Image, ImageOps

from experiments.errors import UserError

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.gif', '.webp', '.tif', '.tiff', '.ppm', '.pgm')
_FORMATS = ('JPEG', 'PNG', 'BMP', 'GIF', 'WEBP', 'TIFF', 'PPM')  # by content; others would start other programs
_MODES = ('1', 'L', 'LA', 'P', 'PA', 'RGB', 'RGBA', 'RGBX')  # of Pillow: 8-bit gray, palette and RGB
_SEVERAL = 'MPO'  # of cameras: a photograph, and its preview or depth behind it
_SHOWN = 60  # characters of what went wrong


def size(path: pathlib.Path) -> tuple[int, int]:
    """Returns (height, width) of a picture, in pixels, from its header.

    Raises:
      UserError: it is no picture of one frame in gray, palette or RGB.
    """
    with _opened(path) as picture:
        return picture.height, picture.width


def read(path: pathlib.Path, shape: tuple[int, int]) -> np.ndarray:
    """Returns a picture as (*shape, 3) uint8; transparency and the camera's orientation are ignored.

    A picture of another shape is resized (bicubic) until it covers that shape, and its centre is taken.

    Raises:
      UserError: as `size` does, or the file is cut off or damaged.
    """
    with _opened(path) as picture:
        # A palette may be transparent, which RGB alone cannot say.
        colour = (picture.convert('RGBA') if picture.mode in ('P', 'PA') else picture).convert('RGB')
        if (colour.height, colour.width) != shape:
            colour = ImageOps.fit(colour, shape[::-1], Image.Resampling.BICUBIC)
        return np.asarray(colour)


@contextlib.contextmanager
def _opened(path: pathlib.Path) -> Iterator[Image.Image]:
    try:
        if not path.is_file():  # a pipe would be waited for
            raise OSError('no such file')
        with Image.open(path, formats=_FORMATS) as picture:
            _check(path, picture)
            yield picture
    except UserError:
        raise
    except Exception as error:  # whatever Pillow or a file system raises
        reason = ' '.join(str(error).replace(str(path), '').split())[:_SHOWN] or type(error).__name__
        raise UserError(f'dataset: cannot read the image {path}: {reason}. Mend it or take it away') from error


def _check(path: pathlib.Path, picture: Image.Image) -> None:
    if picture.mode not in _MODES:
        raise UserError(f'dataset: the image {path} is {picture.mode}, not 8-bit gray or RGB. Save it as RGB')
    if getattr(picture, 'is_animated', False) and picture.format != _SEVERAL:
        raise UserError(f'dataset: the image {path} has {picture.n_frames} frames. Save one of them')

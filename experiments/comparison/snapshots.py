"""The arrays of one file, read a part at a time: .safetensors and .npz; nothing is unpickled."""

import contextlib
import dataclasses
import math
import pathlib
import zipfile
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import ml_dtypes
import numpy as np
from safetensors import safe_open

from experiments.data.npz import read_header
from experiments.errors import UserError

CODES = 'uint8'
FLOATS = ('float16', 'bfloat16', 'float32', 'float64')
STEP = 'step'  # an array of this name says when
_OF_SAFETENSORS = {'F16': 'float16', 'BF16': 'bfloat16', 'F32': 'float32', 'F64': 'float64', 'U8': CODES}
_OF_NPZ = {'void16': 'bfloat16'}  # numpy writes the two bytes, and forgets what they were


class Header(NamedTuple):
    """Of an array.

    Attributes:
      shape: of it.
      dtype: its name, as numpy or ml_dtypes has it where they have it.
    """

    shape: tuple[int, ...]
    dtype: str


class Wanted(NamedTuple):
    """A part of an array.

    Attributes:
      name: of the array.
      index: slices of its first axes, of which only the last may be longer than 1.
    """

    name: str
    index: tuple[slice, ...] = ()


class Snapshot(Protocol):
    """The weights at one step."""

    path: pathlib.Path

    def headers(self) -> dict[str, Header]:
        """What it holds, by name.

        Raises:
          UserError: it cannot be read.
        """

    def read(self, parts: Sequence[Wanted]) -> list[np.ndarray]:
        """Parts of its arrays.

        Raises:
          UserError: it cannot be read.
        """


@contextlib.contextmanager
def blame_file(path: pathlib.Path):
    """Turns whatever the libraries raise into one line on the file."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib, numpy, safetensors and orbax have no common class for what is damaged
        reason = ' '.join(str(error).split())[:100] or type(error).__name__
        raise UserError(f'cannot read {path}: {reason}; it is damaged or no {path.suffix} file: save it anew') from None


@dataclasses.dataclass(frozen=True)
class Safetensors:
    """A .safetensors file."""

    path: pathlib.Path

    def headers(self) -> dict[str, Header]:
        with blame_file(self.path), safe_open(self.path, 'np') as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118, it is no dict
            return {
                name: Header(tuple(found.get_shape()), _OF_SAFETENSORS.get(found.get_dtype(), found.get_dtype()))
                for name, found in slices.items()
            }

    def read(self, parts: Sequence[Wanted]) -> list[np.ndarray]:
        with blame_file(self.path), safe_open(self.path, 'np') as file:
            return [file.get_slice(name)[index] if index else file.get_tensor(name) for name, index in parts]


@dataclasses.dataclass(frozen=True)
class Npz:
    """An .npz file, compressed or not; of a compressed one, what stands before a part is decompressed for it."""

    path: pathlib.Path

    def headers(self) -> dict[str, Header]:
        found = {}
        with blame_file(self.path), zipfile.ZipFile(self.path) as archive:
            for member in (name for name in archive.namelist() if name.endswith('.npy')):
                with archive.open(member) as file:
                    shape, _, dtype, _ = read_header(file)
                found[member.removesuffix('.npy')] = Header(shape, _OF_NPZ.get(dtype.name, dtype.name))
        return found

    def read(self, parts: Sequence[Wanted]) -> list[np.ndarray]:
        with blame_file(self.path), zipfile.ZipFile(self.path) as archive:
            return [_part(archive, *wanted) for wanted in parts]


def _part(archive: zipfile.ZipFile, name: str, index: tuple[slice, ...]) -> np.ndarray:
    with archive.open(f'{name}.npy') as file:
        shape, in_columns, dtype, begins = read_header(file)
        if in_columns:  # a part lies everywhere in it
            file.seek(0)
            found = np.lib.format.read_array(file, allow_pickle=False)[index]
        else:
            strides = [math.prod(shape[axis + 1 :]) for axis in range(len(index))]
            sides = (*(along.stop - along.start for along in index), *shape[len(index) :])
            file.seek(begins + dtype.itemsize * sum(along.start * stride for along, stride in zip(index, strides)))
            found = np.frombuffer(file.read(dtype.itemsize * math.prod(sides)), dtype).reshape(sides)
    return found.view(ml_dtypes.bfloat16) if dtype.name in _OF_NPZ else found


@dataclasses.dataclass(frozen=True)
class Moment:
    """One entry of a file whose arrays have time as their first axis."""

    file: Snapshot
    entry: int

    @property
    def path(self) -> pathlib.Path:
        """Of the file."""
        return self.file.path

    def headers(self) -> dict[str, Header]:
        return {name: Header(shape[1:], dtype) for name, (shape, dtype) in self.file.headers().items() if shape}

    def read(self, parts: Sequence[Wanted]) -> list[np.ndarray]:
        now = slice(self.entry, self.entry + 1)
        return [found[0] for found in self.file.read([Wanted(name, (now, *index)) for name, index in parts])]

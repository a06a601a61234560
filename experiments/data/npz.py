"""A user's own .npz file, under the names that people give their arrays, as a data set in memory.

What is in it is known from the headers of its arrays, before any of them is read.
"""

import contextlib
import functools
import io
import itertools
import math
import pathlib
import re
import zipfile
from collections.abc import Iterable
from typing import BinaryIO

import numpy as np

from experiments.data import images, labels, memory
from experiments.data.arrays import SPLITS, Arrays
from experiments.errors import UserError, blame
from experiments.terminal import note

Header = tuple[tuple[int, ...], np.dtype]  # shape and dtype
_SPLIT_WORDS = dict(zip(SPLITS, (('train', 'training'), ('validation', 'valid', 'val', 'test', 'testing'))))
_KIND_WORDS = {'images': ('images', 'image', 'x', 'data'), 'labels': ('labels', 'label', 'y', 'targets', 'target')}
_LONGEST_HEADER = 2**14  # bytes; numpy's own limit is below that
_SHOWN = 60  # characters of what a file holds


def read_header(member: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Returns shape, whether the first axis is the fastest, dtype and length in bytes of the header of a .npy file.

    Raises:
      ValueError: it has none.
    """
    start = io.BytesIO(member.read(_LONGEST_HEADER))  # however long a bomb says that it is
    if np.lib.format.read_magic(start) == (1, 0):
        found = np.lib.format.read_array_header_1_0(start)
    else:
        found = np.lib.format.read_array_header_2_0(start)
    return *found, start.tell()


class _File:
    """The arrays of a file, by name."""

    def __init__(self, path: str):
        self._path = path
        with self._opened() as archive:
            self.names = [name.removesuffix('.npy') for name in archive.namelist() if name.endswith('.npy')]

    def header(self, name: str) -> Header:
        """Returns shape and dtype of an array, which is not read."""
        with self._opened() as archive, archive.open(f'{name}.npy') as member:
            shape, _, dtype, _ = read_header(member)
        return shape, dtype

    def array(self, name: str) -> np.ndarray:
        with self._opened() as archive, archive.open(f'{name}.npy') as member:
            return np.lib.format.read_array(member, allow_pickle=False)

    @contextlib.contextmanager
    def _opened(self):
        if not pathlib.Path(self._path).is_file():  # a fifo would be waited for
            raise UserError(f'dataset: cannot read {self._path}: no such file')
        try:
            with zipfile.ZipFile(self._path) as archive:
                yield archive
        except Exception as error:  # whatever zipfile, zlib, numpy or a file system raises
            reason = ' '.join(str(error).split())[:_SHOWN] or type(error).__name__
            raise UserError(f'dataset: cannot read {self._path} ({reason}). Make it anew with np.savez') from error


def read(path: str) -> Arrays:
    """Returns the training and validation images and labels of an .npz file, and notes what is not plain about it.

    Raises:
      UserError: the file cannot be read or does not fit in memory, lacks an array, or has one that cannot be meant.
    """
    file = _File(path)
    with blame(f'dataset: {path}'):
        names = _chosen(file.names)
        headers = {name: file.header(name) for kind in names.values() for name in kind.values()}
        _check_headers(path, headers)
        arrays, remarks = _checked(file, names, headers)
    for remark in filter(None, remarks):
        _note_once(f'dataset: {path}: {remark}')
    return arrays


def _checked(file: _File, names: dict[str, dict[str, str]], headers: dict[str, Header]) -> tuple[Arrays, list[str]]:
    """Returns the arrays as batches want them, and what to tell of them; '' is nothing."""
    pictures, spreads, classes, remarks = {}, {}, {}, [_on_names(names)]
    for split in SPLITS:
        image_name, label_name = names['images'][split], names['labels'][split]
        shape, dtype = headers[image_name]
        images.check_dtype(image_name, dtype)
        meant = images.layout(image_name, shape)
        remarks.append('' if meant == 'as they are' else f'{image_name} {shape} is taken as {meant}')
        classes[split] = labels.check(label_name, file.array(label_name))
        if shape[0] != len(classes[split]) or not shape[0]:
            raise ValueError(f'{image_name} has {shape[0]} images, and {label_name} {len(classes[split])} labels')
        made, spreads[split] = images.as_floats(image_name, file.array(image_name))
        if dtype != np.uint8:
            images.check_scale(image_name, spreads[split])
        pictures[split] = images.as_batches_want(made, meant)
    train, validation = (pictures[split].shape[1:] for split in SPLITS)
    if train != validation:
        raise ValueError(f'the images of train are {train}, and those of validation of another shape, {validation}')
    images.check_alike(names['images'], spreads)
    remarks.append(images.faintness(names['images']['train'], spreads['train']))
    remarks.append(labels.check_classes(names['labels'], classes))
    return Arrays(pictures, {split: values.astype(np.int32) for split, values in classes.items()}), remarks


_note_once = functools.cache(note)  # a ladder and a sweep read the same file many times


def _chosen(there: list[str]) -> dict[str, dict[str, str]]:
    """Returns the names of the arrays, by kind and split.

    Raises:
      ValueError: there are none, or several, of a kind and split.
    """
    chosen = {kind: {} for kind in _KIND_WORDS}
    for split, words in _SPLIT_WORDS.items():
        by_word = ({kind: _spelled(there, word, kind, split) for kind in chosen} for word in words)
        found = next((found for found in by_word if all(found.values())), None)
        if found is None:
            shown = ', '.join(map(repr, there)) or 'no arrays'
            raise ValueError(
                f'no {split}_images with {split}_labels. It needs these of train and of validation, and holds '
                f'{shown if len(shown) < _SHOWN else f"{shown[:_SHOWN]}…"}'
            )
        for kind, names in found.items():
            if len(names) > 1:
                raise ValueError(f'{" and ".join(map(repr, names[:2]))} may both be {split}_{kind}. Leave one out')
            (chosen[kind][split],) = names
    return chosen


def _spelled(there: Iterable[str], word: str, kind: str, split: str) -> list[str]:
    """Returns those names that stand for this: 'train_images' alone, or else 'x_train', 'TrainX', 'train/images' ..."""
    ours = f'{split}_{kind}'
    if ours in there:
        return [ours]
    pairs = itertools.chain(*(((word, other), (other, word)) for other in _KIND_WORDS[kind]))
    spellings = set(map(''.join, pairs))
    return [name for name in there if re.sub(r'[\s._/-]', '', name).lower() in spellings]


def _on_names(names: dict[str, dict[str, str]]) -> str:
    """Returns what was taken, where it is not under this project's names; otherwise ''."""
    if all(name == f'{split}_{kind}' for kind, splits in names.items() for split, name in splits.items()):
        return ''
    train, validation = (' and '.join(repr(names[kind][split]) for kind in names) for split in SPLITS)
    return f'trains on {train}, validates on {validation}'


def _check_headers(path: str, headers: dict[str, Header]) -> None:
    """Refuses Python objects, and what does not fit in memory, with the float32 copies that are made of others."""
    for name, (_, dtype) in headers.items():
        if dtype.hasobject:
            raise ValueError(f'{name} holds Python objects ({dtype}). Save an array of numbers, all of one shape')
    needed = sum(
        math.prod(shape) * (dtype.itemsize + (0 if dtype in (np.uint8, np.float32) else 4))
        for shape, dtype in headers.values()
    )
    memory.require(needed, f'dataset: {path}', 'Save uint8 instead of floats, or fewer images')

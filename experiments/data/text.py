"""Texts in memory: their bytes as tokens, and windows of them as a pure function of (seed, step).

A token is a byte. So there is one vocabulary for every text and language, known before the text is read, and no byte of
a validation text is missing in it; in an English text nearly every byte is a character.
"""

import codecs
import dataclasses
import gzip
import itertools
import os
import pathlib
import zlib
from collections.abc import Iterator
from typing import Self

import numpy as np

from experiments.data import memory
from experiments.data.batches import ALONE, Batch, Share
from experiments.data.language import Language
from experiments.data.task import ModelOf
from experiments.errors import UserError, check_file

VOCABULARY = 256
OF_TFDS = ('train', 'validation', 'test')  # the splits of a text in tensorflow-datasets, in order
_TRAINING = 9, 10  # the first nine tenths
_CHUNK = 2**20  # bytes
_COPIES = 2  # of a text, in memory while it is read
_DRAWN = 2  # a fourth number, which the seeds of arrays in memory do not have


def task(model_of: ModelOf, context: int) -> Language:
    """Returns the task of predicting the next byte from up to `context` bytes."""
    return Language(model_of(VOCABULARY), context)


@dataclasses.dataclass(frozen=True)
class TextBatches:
    """Windows of a text; every batch has only this process's share of its rows.

    Training draws windows that may begin anywhere, as nanoGPT does: a batch is a function of (seed, step, order), not
    of the number of processes. Validation cuts the text into windows, so that every token but the first is predicted
    once.

    Attributes:
      tokens: by split, (n,) uint8; each has more than `context` tokens.
      seed, batch_size: as in the config.
      context: tokens that the model reads at once.
      most: windows of validation, evenly spread over all; -1: all.
      share: of this process.
      order: which of the orders of the same data that a seed has.
    """

    tokens: dict[str, np.ndarray]
    seed: int
    batch_size: int
    context: int
    most: int = -1
    share: Share = ALONE
    order: int = 0

    def task(self, model_of: ModelOf) -> Language:
        return task(model_of, self.context)

    def reshuffled(self) -> Self:
        return dataclasses.replace(self, order=self.order + 1)

    @property
    def steps_in_data(self) -> int:
        """Whole batches of different windows."""
        return (len(self.tokens['train']) - self.context) // self.batch_size

    def train(self, start: int, steps_per_epoch: int) -> Iterator[Batch]:
        own = self.share.of(self.batch_size)
        for step in itertools.count(start):
            random = np.random.default_rng((self.seed, step, self.order, _DRAWN))
            starts = random.integers(0, len(self.tokens['train']) - self.context, self.batch_size)
            draws = random.integers(0, 2**32, self.batch_size, np.uint32)
            yield {**self._windows('train', starts[own]), 'draw': draws[own]}

    def validation(self) -> Iterator[Batch]:
        length = len(self.tokens['validation'])
        starts = np.arange(0, length - 1, self.context)
        if 0 < self.most < len(starts):
            starts = starts[np.arange(self.most) * len(starts) // self.most]
        for first in range(0, len(starts), self.batch_size):
            rows = np.arange(first, first + self.batch_size)[self.share.of(self.batch_size)]
            begin = starts[np.minimum(rows, len(starts) - 1)]
            predicted = begin[:, None] + np.arange(1, self.context + 1) < length
            yield {**self._windows('validation', begin), 'mask': predicted & (rows < len(starts))[:, None]}

    def _windows(self, split: str, starts: np.ndarray) -> Batch:
        """The windows that begin at some places; behind the end of the text its last token is repeated."""
        places = starts[:, None] + np.arange(self.context + 1)
        windows = self.tokens[split][np.minimum(places, len(self.tokens[split]) - 1)].astype(np.int32)
        return {'token': windows[:, :-1], 'next': windows[:, 1:]}


def batches(training: bytes, validation: bytes, config, share: Share) -> TextBatches:
    """Returns the batches of a text in two parts.

    Raises:
      UserError: a part is too short for a window.
    """
    tokens = {'train': np.frombuffer(training, np.uint8), 'validation': np.frombuffer(validation, np.uint8)}
    for split, part in tokens.items():
        if len(part) <= config.context:
            raise UserError(
                f'dataset: the {split} part of {config.dataset} has {len(part)} bytes, and context={config.context} '
                'needs more than that. Give a longer text, or lower --config.context'
            )
    most = config.max_validation_examples
    return TextBatches(tokens, config.seed, config.batch_size, config.context, most, share)


def load(path: str, config, share: Share) -> TextBatches:
    """Returns the batches of a text file: the first nine tenths are for training, the rest for validation.

    Raises:
      UserError: as `read` and `batches` do.
    """
    content = read(path)
    part, whole = _TRAINING
    cut = len(content) * part // whole
    return batches(content[:cut], content[cut:], config, share)


def read(path: str) -> bytes:
    """Returns the content of a UTF-8 text file, which may be compressed with gzip.

    Raises:
      UserError: it cannot be read, is empty, no text or damaged, or does not fit in memory.
    """
    file = pathlib.Path(os.path.expanduser(path))
    try:
        check_file(file)
        memory.require(_COPIES * file.stat().st_size, f'the text {path}', 'Give a shorter text')
        content = b''.join(_checked_chunks(file, path))
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or str(error)
        raise UserError(f'cannot read the text {path}: {reason[:90]}. Give a file of UTF-8 text') from error
    if not content:
        raise UserError(f'the text {path} is empty. Give a file of UTF-8 text')
    return content


def _checked_chunks(path: pathlib.Path, name: str) -> Iterator[bytes]:
    """Yields the bytes of a text file, as far as they are UTF-8 and fit in memory."""
    with path.open('rb') as raw:
        compressed = raw.read(2) == b'\x1f\x8b'
    decoder, room = codecs.getincrementaldecoder('utf-8')(), memory.available() // _COPIES
    with gzip.open(path) if compressed else path.open('rb') as file:
        for chunk in iter(lambda: file.read(_CHUNK), b''):
            room -= len(chunk)
            if room < 0:  # a bomb is not unpacked
                raise UserError(f'the text {name} needs more memory than is left. Give a shorter text')
            decoder.decode(chunk)
            yield chunk
    decoder.decode(b'', final=True)

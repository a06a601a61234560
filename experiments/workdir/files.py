"""Files that are written whole or not at all."""

import contextlib
import itertools
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from experiments.errors import UserError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and moves it to `path` at the end: a reader sees the old file or the whole new one."""
    partial = path.with_name(f'.{path.name}.partial')
    partial.unlink(missing_ok=True)  # perhaps a link: it is not written through
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with replacing(path) as partial:
        partial.write_text(text, encoding='utf-8')


def write_json(path: pathlib.Path, content: Mapping) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')


def read_json(path: pathlib.Path) -> dict:
    """Returns the content of a JSON file that a run wrote.

    Raises:
      UserError: the file cannot be read, or holds no JSON object.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError('it is not a file')
        return json_object(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        reason = getattr(error, 'strerror', None) or error
        raise UserError(f'cannot read {path}: {reason}; put back what the run wrote there') from None


def json_object(text: str | bytes) -> dict:
    """Returns the object that a JSON text holds.

    Raises:
      ValueError: it holds none, or NaN or Infinity, or is nested too deeply.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError:
        raise ValueError('it is nested too deeply') from None
    if not isinstance(content, dict):
        raise ValueError('it holds no JSON object')
    return content


def _refuse(constant: str) -> None:
    raise ValueError(f'{constant} is no number of JSON')


def free_name(path: pathlib.Path) -> pathlib.Path:
    """Returns the path, or if that name is taken the path with the first number behind it that is not."""
    numbered = (path.with_name(f'{path.name}-{number}') for number in itertools.count(2))
    return next(name for name in itertools.chain([path], numbered) if not os.path.lexists(name))


@contextlib.contextmanager
def blame_disk(folder: pathlib.Path, flag: str = 'workdir') -> Iterator[None]:
    """Turns an OSError into a UserError: the disk is full, or the user chose a folder that cannot be written.

    Args:
      folder: what is written to.
      flag: the flag that gives it.

    Raises:
      UserError: naming the file, if it is known.
    """
    try:
        yield
    except OSError as error:
        what = f'{error.filename}: ' if error.filename else ''
        raise UserError(
            f'{flag} {folder}: {what}{error.strerror or error}; make room there, and the same command goes on, '
            f'or choose another --{flag}'
        ) from error

"""Files that are written whole or not at all."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from experiments.errors import UserError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Yields a path to write to, and moves it to `path` at the end: a reader sees the old file or the whole new one."""
    partial = path.with_name(f'.{path.name}.partial')
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
        content = json.loads(path.read_text(encoding='utf-8'))
        if not isinstance(content, dict):
            raise ValueError('not an object')
        return content
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path}: {error}') from None


def free_name(path: pathlib.Path) -> pathlib.Path:
    """Returns the path, or the path with a number behind it if that name is taken."""
    taken = sum(1 for _ in path.parent.glob(f'{path.name}*'))
    return path.with_name(f'{path.name}-{taken + 1}') if taken else path


@contextlib.contextmanager
def blame_disk(workdir: pathlib.Path) -> Iterator[None]:
    """Turns an OSError into a UserError: the disk is full, or the user chose a folder that cannot be written.

    Raises:
      UserError: naming the file, if it is known.
    """
    try:
        yield
    except OSError as error:
        what = f'{error.filename}: ' if error.filename else ''
        raise UserError(
            f'workdir {workdir}: {what}{error.strerror or error}; make room there, and the same command goes on, '
            'or choose another --workdir'
        ) from error

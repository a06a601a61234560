"""Files that are there whole or not at all."""

import contextlib
import json
import os
import pathlib
from collections.abc import Iterator, Mapping

from experiments.errors import UserError


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A path to write to; then it takes the place of `path`, and a reader sees the old file or the whole new one."""
    partial = path.with_name(f'.{path.name}.partial')
    try:
        yield partial
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_text(path: pathlib.Path, text: str) -> None:
    """Writes a text."""
    with replacing(path) as partial:
        partial.write_text(text)


def write_json(path: pathlib.Path, content: Mapping) -> None:
    """Writes JSON."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False) + '\n')


def read_json(path: pathlib.Path) -> dict:
    """Reads JSON that a run wrote.

    Raises:
      UserError: not a JSON object.
    """
    try:
        content = json.loads(path.read_text())
        if not isinstance(content, dict):
            raise ValueError('not an object')
        return content
    except (OSError, ValueError) as error:
        raise UserError(f'cannot read {path}: {error}') from None


def free_name(path: pathlib.Path) -> pathlib.Path:
    """The path, or one with a number behind it where something has the name already."""
    taken = sum(1 for _ in path.parent.glob(f'{path.name}*'))
    return path.with_name(f'{path.name}-{taken + 1}') if taken else path


@contextlib.contextmanager
def blame_disk(workdir: pathlib.Path) -> Iterator[None]:
    """Turns what the system refuses into a UserError: it is the disk, or the user's choice of a folder.

    Raises:
      UserError: with the file, where it is known.
    """
    try:
        yield
    except OSError as error:
        what = f'{error.filename}: ' if error.filename else ''
        raise UserError(
            f'workdir {workdir}: {what}{error.strerror or error}; make room there, and the same command goes on, '
            'or choose another --workdir'
        ) from error

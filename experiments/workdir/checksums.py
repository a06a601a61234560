"""Checksums in a folder, by which it can be told whether its files are as they were written."""

import hashlib
import json
import pathlib

from experiments.errors import UserError
from experiments.workdir.files import read_json

_FILE = 'checksums.json'


def seal(folder: pathlib.Path) -> None:
    """Writes checksums.json, the SHA-256 of every file of a folder, into the folder."""
    digests = {name: _digest(folder / name) for name in _files(folder)}
    (folder / _FILE).write_text(json.dumps(digests, indent=2) + '\n', encoding='utf-8')


def damage(folder: pathlib.Path) -> str | None:
    """Returns the first thing that is wrong with a sealed folder, or None if every file is as it was written.

    Only files of the folder are read, whatever checksums.json names; what an operating system puts there, as
    .DS_Store, does no harm.
    """
    try:
        if not (folder / _FILE).exists():
            return f'{_FILE} is missing'
        expected, there = read_json(folder / _FILE), set(_files(folder)) - {_FILE}
        for name in sorted({*expected, *(name for name in there if not pathlib.Path(name).name.startswith('.'))}):
            if name not in there:
                return f'{name!r} is missing' if name.isprintable() else f'{_FILE} names what is not there'
            if expected.get(name) != _digest(folder / name):
                return f'{name} is not as it was written'
        return None if expected else f'{_FILE} is empty'
    except (OSError, UserError):
        return f'{_FILE} cannot be read'


def _files(folder: pathlib.Path) -> list[str]:
    """The files of a folder, by their paths in it: no pipes and devices, and no links."""
    return sorted(
        str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file() and not path.is_symlink()
    )


def _digest(path: pathlib.Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

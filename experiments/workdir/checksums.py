"""Checksums in a folder, by which it can be told whether its files are as they were written."""

import hashlib
import json
import pathlib

_FILE = 'checksums.json'


def seal(folder: pathlib.Path) -> None:
    """Writes checksums.json, the SHA-256 of every file of a folder, into the folder."""
    digests = {name: _digest(folder / name) for name in _files(folder)}
    (folder / _FILE).write_text(json.dumps(digests, indent=2) + '\n', encoding='utf-8')


def damage(folder: pathlib.Path) -> str | None:
    """Returns the first thing that is wrong with a sealed folder, or None if every file is as it was written."""
    try:
        expected = json.loads((folder / _FILE).read_text(encoding='utf-8'))
        for name, digest in expected.items():
            if _digest(folder / name) != digest:
                return f'{name} is not as it was written'
    except FileNotFoundError as error:
        return f'{pathlib.Path(error.filename).relative_to(folder)} is missing'
    except (OSError, ValueError, AttributeError):
        return f'{_FILE} cannot be read'
    return None


def _files(folder: pathlib.Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob('*') if path.is_file())


def _digest(path: pathlib.Path) -> str:
    with path.open('rb') as file:
        return hashlib.file_digest(file, 'sha256').hexdigest()

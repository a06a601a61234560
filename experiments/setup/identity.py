"""What a run is: its resolved config, and the content of the files that the config names.

A name in a config stands for what its file holds now. Two runs are the same run, two processes work on the same run,
and a checkpoint belongs to a run, where their identities do not differ.
"""

import functools
import hashlib
import json
import os
import pathlib
from collections.abc import Mapping

from experiments.errors import UserError, check_file
from experiments.setup import sources
from experiments.setup.settings import Settings


def identity(settings: Settings) -> dict[str, str]:
    """Returns every config key as JSON text, and the SHA-256 of every file that the config names, by its path.

    Raises:
      UserError: a file cannot be read.
    """
    return keys(settings.config) | contents(settings.config)


def keys(config: Mapping) -> dict[str, str]:
    """Returns every config key as JSON text."""
    return {key: json.dumps(value) for key, value in config.items()}


def contents(config: Mapping) -> dict[str, str]:
    """Returns the SHA-256 of everything that a config names by its path: code, arrays, and weights to start from.

    Raises:
      UserError: a file cannot be read.
    """
    found = code(config)
    if config['dataset'].endswith('.npz'):
        found[f'content of {config["dataset"]}'] = _digest(config['dataset'])
    if config['dataset'].startswith('text:'):
        found[f'content of {config["dataset"]}'] = _digest(os.path.expanduser(config['dataset'].removeprefix('text:')))
    if config['dataset'].startswith('folder:'):
        found[f'content of {config["dataset"]}'] = content_of_images(config['dataset'].removeprefix('folder:'))
    if os.path.isfile(config['init_from']):
        found[f'content of {config["init_from"]}'] = _digest(config['init_from'])
    if os.path.isdir(config['init_from']):
        # A checkpoint is what its checksums say; where there is none, whoever reads it says so.
        sums = pathlib.Path(config['init_from']).glob('checkpoints/[0-9]*/checksums.json')
        steps = {int(path.parent.name): path for path in sums if path.parent.name.isdecimal()}
        found |= {'content of init_from': _digest(steps[max(steps)])} if steps else {}
    return found


def code(config: Mapping) -> dict[str, str]:
    """Returns the SHA-256 of the Python files that a config names, and of those beside them that they import.

    Raises:
      UserError: a file cannot be read.
    """
    files = {file for path in sources.named(config) for file in sources.files(path)}
    return {f'content of {file}': _digest(file) for file in sorted(files)}


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Returns the names of what differs between two identities, or is in one alone."""
    return [name for name in {**there, **here} if there.get(name) != here.get(name)]


@functools.lru_cache(maxsize=8)  # once in a process, as the images are read: a sweep asks for every run
def content_of_images(folder: str) -> str:
    """Of the names and contents of DIR/SPLIT/CLASS/FILE, but for hidden files, which a file manager may leave."""
    root, found = pathlib.Path(os.path.expanduser(folder)), hashlib.sha256()
    try:
        files = sorted(path for path in root.glob('*/*/*') if path.is_file() and not path.name.startswith('.'))
    except OSError as error:
        raise UserError(f'cannot read {folder}: {error.strerror}; the config names it') from None
    for path in files:
        line = f'{path.relative_to(root)} {_digest(path)}\n'
        found.update(line.encode(errors='surrogateescape'))  # a name may be any bytes
    return found.hexdigest()


def _digest(path: str | pathlib.Path) -> str:
    try:
        file = pathlib.Path(path)
        check_file(file)
        with file.open('rb') as opened:
            return hashlib.file_digest(opened, 'sha256').hexdigest()
    except OSError as error:
        raise UserError(
            f'cannot read {str(path) or "a file without a name"}: {error.strerror or error}; the config names it'
        ) from None

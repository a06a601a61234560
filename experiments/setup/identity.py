"""What a run is: its resolved config, and the content of the files that the config names.

A name in a config stands for what its file holds now. Two runs are the same run, two processes work on the same run,
and a checkpoint belongs to a run, where their identities do not differ.
"""

import hashlib
import json
import pathlib
from collections.abc import Mapping

from experiments.errors import UserError
from experiments.setup.settings import Settings


def identity(settings: Settings) -> dict[str, str]:
    """Returns every config key as JSON text, and the SHA-256 of every file that the config names, by its path.

    Raises:
      UserError: a file cannot be read.
    """
    found = {key: json.dumps(value) for key, value in settings.config.to_dict().items()}
    return found | {f'content of {path}': _digest(path) for path in _files(settings)}


def differences(there: Mapping[str, str], here: Mapping[str, str]) -> list[str]:
    """Returns the names of what differs between two identities, or is in one alone."""
    return [name for name in {**there, **here} if there.get(name) != here.get(name)]


def _files(settings: Settings) -> list[str]:
    """The files that a config names: of an estimator, a model and arrays."""
    config = settings.config
    code = [text.partition(':')[0] for text in (config.estimator, config.init_map, config.model) if ':' in text]
    return sorted({*code, *([config.dataset] if config.dataset.endswith('.npz') else [])})


def _digest(path: str) -> str:
    try:
        with pathlib.Path(path).open('rb') as file:
            return hashlib.file_digest(file, 'sha256').hexdigest()
    except OSError as error:
        raise UserError(f'cannot read {path}: {error.strerror or error}') from None

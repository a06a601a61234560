"""Whose a checkpoint is: a seal in its folder, with its step and the digest of the run that wrote it.

identity.json of the workdir says which digest that is. A workdir that an earlier version began has neither: there every
checkpoint is its own.
"""

import pathlib

from experiments.errors import UserError
from experiments.workdir.files import read_json, write_json

IDENTITY, _SEAL = 'identity.json', 'seal.json'
RUN = 'run'  # the digest, in both


def run_of(workdir: pathlib.Path) -> str:
    """Returns the digest of the run in a workdir, or '' if an earlier version began it.

    Raises:
      UserError: identity.json cannot be read.
    """
    path = workdir / IDENTITY
    return str(read_json(path).get(RUN)) if path.exists() else ''


def seal(checkpoint: pathlib.Path, run: str, step: int) -> None:
    """Writes into the folder of a checkpoint whose it is."""
    write_json(checkpoint / _SEAL, {RUN: run, 'step': step})


def stranger(checkpoint: pathlib.Path, run: str) -> str | None:
    """Returns why a sound checkpoint does not belong to a run, or None.

    Args:
      checkpoint: its folder, which is named after its step.
      run: the digest of the run; '' if an earlier version began it.
    """
    found = _read_seal(checkpoint)
    if found is None:
        return 'an earlier version wrote it, for another run' if run else None
    if run and found[RUN] != run:
        return 'it belongs to another run'
    return f'it is of step {found["step"]}' if str(found['step']) != checkpoint.name else None


def seals(workdir: pathlib.Path) -> dict[int, dict | None]:
    """Returns the seal of every checkpoint in a workdir, by step; None where an earlier version wrote it without."""
    folders = (workdir / 'checkpoints').glob('[0-9]*')
    return {int(folder.name): _read_seal(folder) for folder in folders if folder.name.isdecimal()}


def _read_seal(checkpoint: pathlib.Path) -> dict | None:
    try:
        found = read_json(checkpoint / _SEAL)
    except UserError:
        return None
    return found if {RUN, 'step'} <= set(found) else None

"""Whether the names that are to be written in a folder are free for it: nobody else's, no link out, the right kind."""

import os
import pathlib
from collections.abc import Iterable

from experiments.errors import UserError

_SAYS_WHOSE = ('config.json', 'identity.json')  # either is there before anything else is written
_FILES = (
    *('.lock', 'environment.json', 'origin.json', 'metrics.jsonl'),
    *('timing.json', 'weights.npz', 'summary.json', 'report.html', 'weight_map.csv', 'slope.csv'),
)
_FOLDERS = ('checkpoints', 'tensorboard', 'figures')


def check_workdir(workdir: pathlib.Path, within: pathlib.Path) -> None:
    """Refuses a workdir in which a run could not write, or would write over what another program made.

    Args:
      workdir: of the run; it need not exist.
      within: the folder that links may not lead out of: the workdir, or that of the ladder it belongs to.

    Raises:
      UserError: naming the file or folder.
    """
    check(workdir, (*_SAYS_WHOSE, *_FILES), ('.', *_FOLDERS), within)
    found = [name for name in (*_FILES, *_FOLDERS) if name != '.lock' and os.path.lexists(workdir / name)]
    if found and not any((workdir / name).exists() for name in _SAYS_WHOSE):
        raise UserError(
            f'workdir {workdir} has {", ".join(found)} and no config.json: no run of this program made that, and '
            'nothing is written over it; choose another --workdir'
        )


def check(folder: pathlib.Path, files: Iterable[str], folders: Iterable[str], within: pathlib.Path) -> None:
    """Refuses names that stand for something else than a file or a folder to write to, or that lead elsewhere.

    Args:
      folder: in which they are.
      files: names of files to be written.
      folders: names of folders to write to.
      within: the folder that links may not lead out of.

    Raises:
      UserError: naming the first.
    """
    home = os.path.realpath(within)
    for names, is_right, kind in ((files, os.path.isfile, 'a file'), (folders, os.path.isdir, 'a folder')):
        for path in (folder / name for name in names):
            if not os.path.lexists(path):
                continue
            if os.path.commonpath([home, os.path.realpath(path)]) != home:
                raise UserError(f'{path} is a link that leads out of {within}; remove it, or choose another folder')
            if not is_right(path):
                raise UserError(f'{path} must be {kind} to write to, and is none; move it, or choose another folder')

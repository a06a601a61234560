"""A workdir belongs to one process: made for it alone, or held by a lock, which is released even by a crash."""

import contextlib
import fcntl
import itertools
import pathlib
import time

from experiments.errors import UserError


class Busy(UserError):
    """Another process runs in the workdir."""


def fresh(parent: pathlib.Path) -> pathlib.Path:
    """Makes a folder with the time as its name, and a number where others begin in the same second; returns it.

    Raises:
      OSError: the folder cannot be made.
    """
    stamp = time.strftime('%Y%m%d-%H%M%S')
    parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        path = parent / (stamp if number == 1 else f'{stamp}-{number}')
        with contextlib.suppress(FileExistsError):
            path.mkdir()
            return path


@contextlib.contextmanager
def locked(workdir: pathlib.Path):
    """Holds an existing workdir for this process.

    Raises:
      Busy: another process holds it.
    """
    with (workdir / '.lock').open('a', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f'workdir {workdir}: another run is going on there; wait for it, or choose another') from None
        yield

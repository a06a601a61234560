"""A workdir belongs to one process: made for it alone, or held by a lock, which is released even by a crash."""

import contextlib
import fcntl
import itertools
import os
import pathlib
import time
from collections.abc import Callable, Iterator

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
def locked(workdir: pathlib.Path) -> Iterator[Callable[[], None]]:
    """Holds an existing workdir for this process.

    Yields:
      A check to make before each write there: it raises a UserError once the workdir was deleted, moved or made again.
      The lock is on a file, and files are opened by their path, which may have come to mean another.

    Raises:
      Busy: another process holds it.
    """
    path = workdir / '.lock'
    with path.open('a', encoding='utf-8') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Busy(f'workdir {workdir}: another run is going on there; wait for it, or choose another') from None

        def check() -> None:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                    return
            raise UserError(
                f'workdir {workdir} was deleted, moved or made again while this run was going on; it ends, and writes '
                'nothing more there. Start it again where its workdir is now'
            )

        yield check

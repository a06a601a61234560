"""A lock that lets only one process work in a workdir; it is released even by a crash."""

import contextlib
import fcntl
import pathlib

from experiments.errors import UserError


class Busy(UserError):
    """Another process runs in the workdir."""


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

"""Whether what is asked for fits in memory, estimated before any of it is read or made."""

import os
import pathlib
import re

from experiments.errors import UserError


def require(needed: int, subject: str, remedy: str) -> None:
    """Refuses what needs more bytes than this machine has left.

    Args:
      needed: bytes.
      subject: what needs them, as the message begins.
      remedy: what the user can do.

    Raises:
      UserError: with both numbers.
    """
    left = available()
    if needed > left:
        raise UserError(f'{subject} needs {needed / 1e9:.3g} GB of memory, and {left / 1e9:.3g} are left. {remedy}')


def available() -> int:
    """Returns the bytes of memory that are left; where the system does not say, those that there are."""
    try:
        return 1024 * int(re.search(r'MemAvailable:\s*(\d+) kB', pathlib.Path('/proc/meminfo').read_text())[1])
    except (OSError, TypeError):  # no Linux, or an old one
        return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')

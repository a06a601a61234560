"""Whether a disk takes a checkpoint, asked before libraries write it, and why it does not."""

import errno
import os
import pathlib
import re
import tempfile

_MOST_FILES = 32  # of a checkpoint while it is written
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def check(folder: pathlib.Path, needed: int) -> None:
    """Raises OSError if so many bytes, or so many files, cannot be written; in orbax that would end less orderly."""
    there = os.statvfs(folder)
    free = there.f_bavail * there.f_frsize
    if free < needed:
        raise OSError(f'it takes {needed / 1e6:.1f} MB and the disk has {free / 1e6:.1f} MB left')
    if there.f_files and there.f_favail < _MOST_FILES:
        raise OSError(f'the disk has room for {there.f_favail} more files only (inodes)')
    if hasattr(os, 'posix_fallocate'):  # a quota, or a limit on the size of files
        with tempfile.TemporaryFile(dir=folder) as file:
            try:
                os.posix_fallocate(file.fileno(), 0, max(1, needed))
            except OSError as error:
                if error.errno in _FULL:  # others say that this file system cannot tell
                    raise


def reason(error: Exception) -> str:
    """Returns why something could not be written, in a few words."""
    code = re.search(r"os_error_code='(\d+)'", str(error))  # in what tensorstore says, last
    if code:
        return os.strerror(int(code[1]))
    return getattr(error, 'strerror', None) or str(error).partition('\n')[0][:120] or type(error).__name__

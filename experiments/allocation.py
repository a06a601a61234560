"""Keeps memory that was used once, so that a training step on a CPU does not ask the system for it again.

XLA takes a step's temporary arrays from the allocator and gives them back after it. By default glibc hands large ones
to the system at once, and the system clears every page of the next step's anew. Imports nothing heavy, for it is
called first of all. (One heap for all threads would keep still more, and was a sixth slower on small models.)
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_MOST = 2**31 - 1  # bytes that may lie idle at the end of the heap


def keep_memory() -> None:
    """Heaps hold large arrays too, and are not given back; does nothing where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for parameter, value in ((_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST)):
            mallopt(parameter, value)

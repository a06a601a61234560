"""Keeps memory that was used once, so that a training step on a CPU does not ask the system for it again.

XLA takes a step's temporary arrays from the allocator and gives them back after it. By default glibc hands large ones
to the system at once, and the system clears every page of the next step's anew: in docs/performance.md, a third of a
step. Imports nothing heavy, for it must be called before jax starts its threads, each of which chooses an arena.
"""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
_MOST = 2**31 - 1  # bytes that may lie idle at the end of the heap


def keep_memory() -> None:
    """One heap, which holds large arrays too and is not given back; does nothing where there is no glibc."""
    mallopt = getattr(ctypes.CDLL(None), 'mallopt', None)
    if mallopt:
        for parameter, value in ((_M_ARENA_MAX, 1), (_M_MMAP_MAX, 0), (_M_TRIM_THRESHOLD, _MOST)):
            mallopt(parameter, value)

"""How the process that serves gives memory back to the system."""

from __future__ import annotations

import ctypes
import platform

# glibc's numbers of what its mallopt sets.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
# Above the tensors of a query, which are made again for each; below the pixels of a large image.
APART = 8 * 2**20
# Kept at the end of each heap, for the tensors of the next query.
_KEPT = 32 * 2**20
# Heaps of all threads together, each of which keeps what is free in it. Python's threads run one at
# a time, so they hardly ever wait for one.
_HEAPS = 2


def return_large_blocks() -> None:
    """Has memory for large images go back to the system as soon as nobody needs it.

    Of itself glibc takes up to 32 MB at a time from a heap, once it has seen such a size freed.
    What lies behind it there, small and in use for long, then keeps the heap from shrinking, and
    each thread that has ever seen a large image holds some of its memory. Nothing happens where
    there is another C library.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    library = ctypes.CDLL(None)
    library.mallopt(_ARENA_MAX, _HEAPS)
    library.mallopt(_MMAP_THRESHOLD, APART)
    library.mallopt(_TRIM_THRESHOLD, _KEPT)  # Else any size, once the other is set.

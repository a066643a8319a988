"""Memory that a training step frees, kept for the next one."""

from __future__ import annotations

import ctypes
import platform

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h; see mallopt(3)


def keep_freed_memory() -> None:
    """Keep what is freed for what is asked for next, in this process until it ends.

    Otherwise glibc gets every large block from the system and gives it back, and the system clears all its pages anew:
    4 to 25 % of a training step on a CPU (benchmarks/freed_memory.py). With another C library nothing changes.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, -1)

"""The C library's heap, as far as its keeping of freed memory matters. Does nothing where that is not glibc's."""

import ctypes

M_MMAP_THRESHOLD = -3
LARGE = 2**20


def give_back_at_once() -> None:
    """From now on blocks of more than `LARGE` bytes go back to the system when they are freed.

    glibc would raise that limit to 32 MiB as such blocks come and go, and keep what lies between others: 8% of the peak
    when TensorRT-RTX builds ViLT-base in float16.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        libc.mallopt(M_MMAP_THRESHOLD, LARGE)


def trim() -> None:
    """Give back all that is free now."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)

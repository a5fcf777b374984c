"""How a process of ours deals with memory: what it made when it began, and what was freed."""

from __future__ import annotations

import gc
from typing import Final

__all__ = ["begin_without_collecting", "collect_at_the_end", "collect_from_now_on", "keep_freed_memory"]

_MAPPED: Final = 4 * 1024 * 1024


def keep_freed_memory() -> None:
    """
    Have the C library keep up to 8 MiB of freed memory, instead of giving it back and asking for it again.

    The batches in flight come and go at the end of the heap, and each is larger than what glibc keeps
    there. So with every batch the heap shrinks and grows, and each of its pages is faulted in anew. For
    a daemon that forwards flat out, this made a fifth of its CPU time. A program that embeds a pool is
    not ours to tune: it gets the same with MALLOC_MMAP_THRESHOLD_ and MALLOC_TRIM_THRESHOLD_ in its
    environment. Either alone does not do: to set one stops glibc from moving the other.

    Source: mallopt(3), M_MMAP_THRESHOLD. The first block to be freed that was mapped by itself sets both
    limits: blocks of up to its size come from the heap from then on, and twice that may lie there free.
    It is mapped, never touched, and costs nothing. Other C libraries have no such rule, and nothing changes.
    """
    bytes(_MAPPED)


class _Start:
    """What begin_without_collecting() has begun."""

    collector_off = False
    frozen = False


def begin_without_collecting() -> None:
    """
    Have nobody look for garbage until collect_from_now_on().

    What a start makes is there to stay: classes, functions, what they know of each other. To go through all
    of it each time that a few hundred more are made takes 7 % of the start of a daemon.
    """
    if gc.isenabled():
        gc.disable()
        _Start.collector_off = True


def collect_from_now_on() -> None:
    """
    Have garbage looked for, but not in what is there: it is not gone through again, while the work waits.

    Nothing happens in a program that has not called begin_without_collecting(): it is not ours to tune.
    """
    if _Start.collector_off:
        _Start.collector_off = False
        _Start.frozen = True
        gc.freeze()
        gc.enable()


def collect_at_the_end() -> None:
    """
    Leave the collector as it was found, and have it look through what was made since.

    Else Python would not come to all that a plugin forgot to close, and what was still to be written is lost.
    """
    if _Start.frozen:
        _Start.frozen = False
        gc.unfreeze()
        gc.collect()
    elif _Start.collector_off:
        _Start.collector_off = False
        gc.enable()

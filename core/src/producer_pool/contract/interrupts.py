"""Which exceptions out of somebody else's code are meant for the program."""

from __future__ import annotations

import threading

__all__ = ["is_interrupt"]


def is_interrupt(error: BaseException) -> bool:
    """Return whether *error* is a KeyboardInterrupt on the main thread, where Python handles signals."""
    on_main_thread = threading.current_thread() is threading.main_thread()
    return isinstance(error, KeyboardInterrupt) and on_main_thread

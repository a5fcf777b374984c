"""Whatever code of others may raise."""

import asyncio
from collections.abc import Callable
from typing import Final

from support.faults import FULL

__all__ = ["ANYTHING", "KINDS", "Odd"]


class Odd(BaseException):
    """What no library catches."""


ANYTHING: Final[dict[str, Callable[[], BaseException]]] = {
    "ValueError": lambda: ValueError("odd"),
    "MemoryError": MemoryError,
    "RecursionError": RecursionError,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "TimeoutError": TimeoutError,
    "CancelledError": asyncio.CancelledError,
    "GeneratorExit": GeneratorExit,
    "SystemExit": lambda: SystemExit(3),
    "KeyboardInterrupt": KeyboardInterrupt,
    "BaseException": lambda: Odd("odd"),
    "a group": lambda: BaseExceptionGroup("odd", [Odd(), ValueError()]),
}


KINDS: Final = list(ANYTHING) if FULL else ["ValueError", "CancelledError", "SystemExit", "KeyboardInterrupt"]

"""Signals at every point where the interpreter can handle one, without any timing."""
# CPython 3.11 and later runs a handler on the main thread: as a function begins, after a call, and at a jump
# backward. A trace function sees each instruction before it runs; so it can stand in for the signal.

import dis
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

__all__ = ["Interrupted", "interrupted_at", "points", "raise_interrupted"]

_AT: Final = frozenset({"JUMP_BACKWARD"})
_AFTER: Final = frozenset({"CALL", "CALL_FUNCTION_EX"})


class Interrupted(BaseException):
    """What the handler raises."""


class _Tracer:
    """Counts the points where a signal can be handled in files below *folder*, and strikes at one of them."""

    def __init__(self, folder: Path, strike_at: int | None) -> None:
        self.count = 0
        self.where = ""
        self._folder = str(folder)
        self._strike_at = strike_at
        self._points: dict[CodeType, frozenset[int]] = {}

    def __call__(self, frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(self._folder):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        if event == "call" or (event == "opcode" and frame.f_lasti in self._of(frame.f_code)):
            self.count += 1
            if self.count == self._strike_at:
                self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
                handler = signal.getsignal(signal.SIGUSR1)
                assert callable(handler)
                sys.settrace(None)
                handler(signal.SIGUSR1, frame)
        return self

    def _of(self, code: CodeType) -> frozenset[int]:
        """Return the offsets of instructions before which a signal can be handled."""
        if code not in self._points:
            found = set()
            before = ""
            for instruction in dis.get_instructions(code):
                if before in _AFTER or instruction.opname in _AT:
                    found.add(instruction.offset)
                if instruction.opname != "CACHE":
                    before = instruction.opname
            self._points[code] = frozenset(found)
        return self._points[code]


def points(call: Callable[[], object], folder: Path, *, before: Callable[[], object]) -> int:
    """
    Return at how many points of *call* a signal can be handled, in code below *folder*.

    *before* is called first, to have each call go the same way. Of several ways the longest counts.
    """
    tracers = [_Tracer(folder, None) for _ in range(5)]
    for tracer in tracers:
        before()
        _traced(tracer, call)
    return max(tracer.count for tracer in tracers)


def raise_interrupted(number: int, frame: FrameType | None) -> None:
    """Be a signal handler that raises."""
    raise Interrupted


def interrupted_at(
    number: int,
    call: Callable[[], object],
    folder: Path,
    handler: Callable[[int, FrameType | None], object] = raise_interrupted,
) -> str:
    """Make *call*, and have *handler* called for a signal at that point; return where that was, or ''."""
    tracer = _Tracer(folder, number)
    before = signal.signal(signal.SIGUSR1, handler)
    try:
        _traced(tracer, call)
    except Interrupted:
        pass
    finally:
        left = signal.signal(signal.SIGUSR1, before)
    if left is not handler:
        raise AssertionError(f"{tracer.where}: the program's own handler is gone: {left}")
    return tracer.where


def _traced(tracer: _Tracer, call: Callable[[], object]) -> None:
    outer = sys.gettrace()
    sys.settrace(tracer)
    try:
        call()
    finally:
        sys.settrace(outer)

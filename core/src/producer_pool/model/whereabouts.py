"""Where a thread, or a coroutine that waits, is just now: in words, for a verdict."""

from __future__ import annotations

import sysconfig
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, Final

__all__ = ["of_coroutine", "of_thread", "where"]

_STDLIB: Final = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))


def of_thread(frame: FrameType) -> traceback.StackSummary:
    """Return the stack of a thread that is at *frame*, the innermost call last."""
    return traceback.extract_stack(frame)


def of_coroutine(coroutine: Any) -> traceback.StackSummary:
    """Return the coroutines in which *coroutine* waits, the innermost last."""
    frames = []
    while (frame := getattr(coroutine, "cr_frame", None)) is not None:
        frames.append((frame, frame.f_lineno))
        coroutine = coroutine.cr_await
    return traceback.StackSummary.extract(iter(frames))


def where(stack: traceback.StackSummary) -> str:
    """Name the innermost function of *stack*, and the innermost one that is not of Python's library."""
    inner = stack[-1]
    own = next((one for one in reversed(stack) if not one.filename.startswith((*_STDLIB, "<"))), inner)
    by = "" if own is inner else f", called by {_named(own)}"
    return f"in {_named(inner)}{by}"


def _named(one: traceback.FrameSummary) -> str:
    return f"{one.name}() ({'/'.join(Path(one.filename).parts[-2:])}, line {one.lineno})"

"""The bar that shows how far a bench is, on a terminal."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Final, Self

__all__ = ["Bar"]

_WIDTH: Final = 24


class Bar:
    """One line on stderr, drawn again and again, and gone at the end; nothing, unless it is *shown*."""

    def __init__(self, *, shown: bool) -> None:
        self._shown = shown

    def show(self, what: str, done: float) -> None:
        """Say what happens now, and which part of all is done."""
        if self._shown:
            full = round(min(max(done, 0.0), 1.0) * _WIDTH)
            self._draw(f"[{'#' * full:{_WIDTH}}] {what}"[:79])

    def _draw(self, text: str) -> None:
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._shown:
            self._draw("")

"""A receipt that whoever made it finishes: for intakes that are no pool."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OwnReceipt"]


class OwnReceipt:
    """What an intake of one's own says of a batch: done when finish() is called. It is an IntakeReceipt."""

    stored = None

    def __init__(self) -> None:
        self.done = self.delivered = False
        self._waiting: list[Callable[[], None]] = []

    def when_stored(self, callback: Callable[[], None], /) -> None:
        """Call *callback* at once: nothing is ever stored."""
        callback()

    def when_done(self, callback: Callable[[], None], /) -> None:
        """Call *callback* when the batch is finished; at once if it is."""
        if self.done:
            callback()
        else:
            self._waiting.append(callback)

    def finish(self, *, delivered: bool = True) -> None:
        """Note that the batch has come to its end, *delivered* or not."""
        self.done, self.delivered = True, delivered
        while self._waiting:
            self._waiting.pop(0)()

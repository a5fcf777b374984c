"""What an outbox needs of whoever keeps dead letters: the messages that were given up."""
# Rule: take() waits for nothing, and calls nobody back before it has returned.

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from producer_pool.model.given_up import GivenUp

__all__ = ["DeadLetters"]


class DeadLetters(Protocol):
    """Keeps what one producer gives up."""

    def take(self, given_up: GivenUp, done: Callable[[bool], None]) -> bool:
        """
        Begin to keep these messages, and say whether that was begun: False, if there is no room.

        *done* is called once, on the loop, when it is known whether they are safe, all of them; never if
        this returned False.
        """

"""What a forked child has in common with its parent, and may not use: sockets and pollers."""
# Rule: a child closes, reads, writes and unregisters nothing of its parent's. A shutdown() would end the
# parent's connection, a read take its messages, and what is unregistered from an epoll that both have is
# gone for the parent, too. And a child that only lives on would hold ports beyond the parent's end.

from __future__ import annotations

import os
import select
import weakref
from collections.abc import Iterable
from typing import Final, Protocol

__all__ = ["keep_from_children"]


class _Held(Protocol):
    """What has a file descriptor as long as it is open: a socket, a selector."""

    def fileno(self) -> int:
        """Return the descriptor. -1, or ValueError: it is closed."""


_HELD: Final[weakref.WeakSet[_Held]] = weakref.WeakSet()
_POLLERS: Final[weakref.WeakSet[_Held]] = weakref.WeakSet()


def keep_from_children(*held: _Held, poller: bool = False) -> None:
    """
    Have forked children let go of these, without touching what they are.

    Where a child had one of them, it has a descriptor that leads nowhere. That of a *poller* watches
    nothing, so that something can be unregistered from it.
    """
    (_POLLERS if poller else _HELD).update(held)


def _let_go() -> None:
    """Put something harmless in the place of each descriptor: in the child, before anything else is done."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in _open(_HELD):
        os.dup2(null, descriptor, inheritable=False)
    os.close(null)
    if hasattr(select, "epoll"):  # A kqueue is not inherited.
        for descriptor in _open(_POLLERS):
            with select.epoll() as empty:
                os.dup2(empty.fileno(), descriptor, inheritable=False)


def _open(held: weakref.WeakSet[_Held]) -> Iterable[int]:
    for one in list(held):
        try:
            descriptor = one.fileno()
        except ValueError:
            continue
        if descriptor >= 0:
            yield descriptor


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)

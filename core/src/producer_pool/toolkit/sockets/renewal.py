"""Sockets whose place somebody took away, bound anew: they still listen, and nobody can come to them."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.model.errors import ConfigurationError, ListenError
from producer_pool.toolkit.sockets.binding import Binding, as_listen_error

__all__ = ["Renewal"]

_LOOK: Final = 5.0
"""Seconds between two looks: each is a system call."""
_REMIND: Final = 60.0
"""Seconds until the same trouble is told again."""


class Renewal:
    """
    Looks now and then whether others can still come to the sockets of *binding*, and binds anew if not.

    *replace* gets the new sockets, and closes the old ones; *complain* gets a cause, and a text for the log.
    """

    def __init__(
        self,
        binding: Binding,
        replace: Callable[[Sequence[socket.socket]], None],
        complain: Callable[[str, str], None],
    ) -> None:
        self._binding = binding
        self._replace = replace
        self._complain = complain
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._said = ("", 0.0)
        """The last complaint, and when it was made."""

    def start(self) -> None:
        """Look from now on, on the running loop."""
        self._loop = asyncio.get_running_loop()
        if self._binding.lapses:
            self._timer = self._loop.call_later(_LOOK, self._look)

    def stop(self) -> None:
        """Look no more, and bind nothing any more. May be called twice, and without start()."""
        timer, task, self._timer, self._task = self._timer, self._task, None, None
        if timer is not None:
            timer.cancel()
        if task is not None:
            task.cancel()

    def _look(self) -> None:
        why = self._binding.lapsed()
        if why:
            self._task = self._loop.create_task(self._renew(why))
        else:
            self._timer = self._loop.call_later(_LOOK, self._look)

    async def _renew(self, why: str) -> None:
        try:
            with as_listen_error(self._binding.address):
                sockets = await self._binding.bind()
        except (ListenError, ConfigurationError) as error:
            if self._is_news(f"{why}{error}"):
                self._complain("lapsed", f"nobody can come here: {why}, and it cannot be made anew: {error}")
        else:
            self._replace(sockets)
            self._complain("renewed", f"nobody could come here: {why}; it was made anew")
        self._task = None
        self._timer = self._loop.call_later(_LOOK, self._look)

    def _is_news(self, trouble: str) -> bool:
        """Whether *trouble* is another one than before, or that was long ago."""
        now = self._loop.time()
        before, when = self._said
        if trouble == before and now - when < _REMIND:
            return False
        self._said = (trouble, now)
        return True

"""The pings of one connection: whether the other side is there, and how far the messages got."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final, Protocol

from producer_pool_websocket.frames import PING, control_frame
from producer_pool_websocket.options import PingOptions
from producer_pool_websocket.pongs import Pongs

__all__ = ["Line", "Pulse"]

_LEAST_STEP: Final = 0.01
"""Seconds, at the least, between two looks at a connection: else a tiny limit would take all time."""


class Line(Protocol):
    """A connection, as far as pings are concerned."""

    @property
    def position(self) -> int:
        """Bytes of its stream up to now: all that was begun or said."""

    def say(self, data: bytes) -> None:
        """Send *data*, which belongs to no message, after what was begun."""

    def silent(self, reason: str) -> None:
        """Be told that the other side does not answer."""


class Pulse:
    """
    Sends pings, and gives the connection up when they have no answer.

    A quiet other side is asked whether it is there. With *asks*, there is a ping behind messages, too, and
    its answer says that all before it have been read: see Pongs.
    """

    def __init__(self, line: Line, options: PingOptions, *, asks: bool, masked: bool) -> None:
        self.pongs = Pongs()
        self._line = line
        self._asks = asks
        self._masked = masked
        self._interval = options.ping_interval
        self._patience = options.ping_timeout
        self._loop = asyncio.get_running_loop()
        self._heard = self._loop.time()
        """When anything last came."""
        self._asked_at = 0
        """The position behind the last ping."""
        self._asking: asyncio.TimerHandle | None = None
        self._step = max(min(self._interval or self._patience, self._patience) / 4, _LEAST_STEP)
        self._beating: asyncio.TimerHandle | None = self._loop.call_later(self._step, self._beat)

    def heard(self) -> None:
        """Be told that something came: the other side is there."""
        self._heard = self._loop.time()

    def answered(self, payloads: Iterable[bytes]) -> bool:
        """Take what pongs carried; return whether messages got further by that."""
        got_further = False
        for payload in payloads:
            got_further |= self.pongs.answered(payload)
        if got_further:
            self.follow_up()
        return got_further and self._asks

    def follow_up(self) -> None:
        """See to it that there is a ping behind what was begun, now or soon."""
        if not self._asks or self._asking is not None or self._beating is None:
            return
        position = self._line.position
        if position <= self._asked_at:
            return
        delay = self.pongs.due(position, self._loop.time())
        if delay == 0.0:
            self._ask()
        elif delay is not None:
            self._asking = self._loop.call_later(delay, self._ask_now)

    def _ask_now(self) -> None:
        self._asking = None
        self.follow_up()

    def _ask(self) -> None:
        payload = self.pongs.ask(self._line.position, self._loop.time())
        self._line.say(control_frame(PING, payload, masked=self._masked))
        self._asked_at = self._line.position

    def _beat(self) -> None:
        now = self._loop.time()
        since = self.pongs.since
        quiet = now - self._heard
        if since is not None and min(now - since, quiet) > self._patience:
            self.stop()
            self._line.silent(f"no answer to a ping within {self._patience:.3g} s; see ping-timeout")
            return
        self._beating = self._loop.call_later(self._step, self._beat)
        if since is None and self._interval and quiet > self._interval:
            self._ask()

    def stop(self) -> None:
        """Send no more pings."""
        for timer in (self._asking, self._beating):
            if timer is not None:
                timer.cancel()
        self._asking = self._beating = None

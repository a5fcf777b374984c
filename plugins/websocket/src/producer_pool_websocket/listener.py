"""The listener: a handshake, then frames, of which each read's messages are one batch."""

from __future__ import annotations

import socket
from http import HTTPStatus
from typing import Final

from producer_pool.plugin import (
    Batch,
    Binding,
    Connection,
    FramingError,
    ServerTls,
    StreamListener,
)
from producer_pool_websocket.answering import House, Request, refusal
from producer_pool_websocket.closing import GOING_AWAY, POLICY, close_frame
from producer_pool_websocket.frames import PING, PONG, control_frame
from producer_pool_websocket.options import AnyListenerOptions
from producer_pool_websocket.reading import FrameReader

__all__ = ["WebSocketConnection", "WebSocketListener"]

_MOST: Final = 256 * 1024
"""Bytes read at once. Of the messages, their masks and the frames that go out there are copies, and with more
of them they leave the cache of the processor: a fifth slower with 768 KiB."""
_BITE: Final = 16 * 1024
"""Bytes read at once of who compresses, since a thousand times as many may be made of them, and of who
floods us with tiny frames, each of which takes as long as three messages."""


class WebSocketConnection(Connection):
    """One connection of a listener."""

    __slots__ = ("_asked", "_error", "_heard", "_limit", "_reader", "_request", "_told")

    def __init__(self, sock: socket.socket, origin: str, since: float, *, house: House, limit: int) -> None:
        super().__init__(sock, origin, since)
        self.bite = _BITE
        self._limit = limit
        self._request: Request | None = Request(house)
        """None once there is an answer."""
        self._reader: FrameReader | None = None
        self._error: FramingError | None = None
        self._told = False
        """Whether the other side knows that nothing follows."""
        self._heard = since
        """When anything came."""
        self._asked: float | None = None
        """When a ping was sent that nothing came after."""

    def receive(self, data: bytearray, size: int, now: float) -> Batch | None:
        self._heard = now
        self._asked = None
        reader = self._reader
        if reader is None:
            reader, rest = self._shake_hands(bytes(memoryview(data)[:size]), now)
            if reader is None:
                return None
            messages = reader.feed(rest, len(rest))
        else:
            messages = reader.feed(data, size)
        self._answer(reader)
        if reader.floods:
            self.bite = _BITE
        if not messages:
            return None
        self.since = now
        return Batch.owning(messages, received=now, origin=self.origin)

    def _shake_hands(self, data: bytes, now: float) -> tuple[FrameReader | None, bytes]:
        """Answer the request once it is whole; return who reads what came after it, if it was a good one."""
        if self._request is None:
            return None, b""
        answer, rest = self._request.feed(data)
        if answer is None:
            return None, b""
        self._request = None
        self.unsaid += answer.data
        if answer.refused:
            self._told = True
            self._error = FramingError(answer.refused)
            return None, b""
        self._reader = FrameReader(self._limit, masked=True, inflater=answer.inflater)
        self.bite = 0 if answer.inflater is None else _BITE
        self.since = now
        return self._reader, rest

    def _answer(self, reader: FrameReader) -> None:
        """Say what the frames that were read ask for."""
        reader.pongs.clear()
        if reader.ping is not None:
            self.unsaid += control_frame(PONG, reader.ping, masked=False)
            reader.ping = None
        if self._told:
            return
        if reader.error is not None:
            self.unsaid += close_frame(reader.code, str(reader.error), masked=False)
            self._told = True
        elif reader.closed is not None:
            self.unsaid += close_frame(reader.closed.code, masked=False)
            self._told = True

    # -- what the listener asks --------------------------------------------------------------------

    @property
    def error(self) -> FramingError | None:
        return self._error if self._reader is None else self._reader.error

    @property
    def tail(self) -> int:
        return 0 if self._reader is None else self._reader.tail

    @property
    def established(self) -> bool:
        return self._reader is not None

    @property
    def handshake(self) -> str:
        return "websocket handshake" if super().established else super().handshake

    @property
    def ended(self) -> bool:
        return self._reader is not None and self._reader.closed is not None

    def farewell(self, *, evicted: bool) -> bytes | None:
        if not super().established:
            return None
        if self._told:
            return b""
        self._told = True
        if self._reader is None:
            status = HTTPStatus.REQUEST_TIMEOUT if evicted else HTTPStatus.SERVICE_UNAVAILABLE
            return refusal(status, "").data
        return close_frame(POLICY if evicted else GOING_AWAY, masked=False)

    def heard(self, now: float) -> None:
        super().heard(now)
        self._heard = now
        self._asked = None

    # -- keeping it --------------------------------------------------------------------------------

    def keep(self, now: float, interval: float, timeout: float) -> bool:
        """Ask the other side whether it is there, if need be; False: it was asked, and says nothing."""
        if self._asked is not None:
            return now - self._asked <= timeout
        if interval and now - self._heard > interval:
            self.unsaid += control_frame(PING, b"", masked=False)
            self._asked = now
        return True


class WebSocketListener(StreamListener):
    """
    Receives messages over websockets, text or binary, at one path.

    While the intake is paused nothing is read, and so no ping is answered either.
    """

    def __init__(
        self, binding: Binding, options: AnyListenerOptions, house: House, *, tls: ServerTls | None = None
    ) -> None:
        options.check_times(binding.address)
        super().__init__(binding, options.limits(), tls=tls)
        self._buffer.most = _MOST
        self._handshake_timeout = options.handshake_timeout
        self._interval = options.ping_interval
        self._patience = options.ping_timeout
        self._house = house

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        return WebSocketConnection(
            sock, origin, self._loop.time(), house=self._house, limit=self._options.max_message
        )

    def _limits(self) -> list[float | None]:
        return [*super()._limits(), self._interval, self._patience]

    def _check_time(self, connection: Connection, passed: float) -> None:
        super()._check_time(connection, passed)
        if not connection.established or connection.socket.fileno() < 0 or connection.parting:
            return
        assert isinstance(connection, WebSocketConnection)
        if connection.keep(self._loop.time(), self._interval, self._patience):
            if connection.unsaid:
                self._say_back(connection)
        else:
            self._evict(connection, f"no answer to a ping within {self._patience:.3g} s; see ping-timeout")

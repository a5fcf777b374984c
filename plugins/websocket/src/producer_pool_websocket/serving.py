"""The client that consumers connect to: browsers, and whoever else cannot listen."""

from __future__ import annotations

import socket

from producer_pool.plugin import Ack, Batch, Binding, Peer, ServerTls, ServingClient
from producer_pool_websocket.answering import House, Request
from producer_pool_websocket.closing import GOING_AWAY, POLICY, close_frame
from producer_pool_websocket.frames import PLAIN_BINARY, PLAIN_TEXT, PONG, control_frame
from producer_pool_websocket.options import AnyServeOptions, Kind
from producer_pool_websocket.pulse import Pulse
from producer_pool_websocket.reading import FrameReader

__all__ = ["WebSocketPeer", "WebSocketServingClient"]


class WebSocketPeer(Peer):
    """
    One consumer that connected, and is served once its handshake is done.

    What it says in messages is skipped; its pings are answered, the last of those that came together.
    """

    def __init__(self, client: WebSocketServingClient, sock: socket.socket, origin: str) -> None:
        super().__init__(client, sock, origin)
        self._pings = client.pings
        self._asks = client.asks
        self.notes = client.asks
        self._request = Request(client.house)
        self._reader = FrameReader(None, masked=True)
        self._pulse: Pulse | None = None
        self._told = False
        """Whether it knows that nothing follows."""

    # -- the handshake -----------------------------------------------------------------------------

    def opened(self) -> None:
        """Wait for its request."""

    def received(self, data: memoryview) -> None:
        if self._pulse is not None:
            self._hear(data)
            return
        answer, rest = self._request.feed(data)
        if answer is None:
            return
        self.say(answer.data)
        if answer.refused:
            self.leave(answer.refused, fault=True)
            return
        self._pulse = Pulse(self, self._pings, asks=self._asks, masked=False)
        self.join()
        if rest:
            self._hear(memoryview(rest))

    # -- afterwards --------------------------------------------------------------------------------

    def take(self, first: int, run: Batch, wire: bytes) -> None:
        super().take(first, run, wire)
        self._follow_up()

    def sent(self) -> None:
        self._follow_up()

    def _follow_up(self) -> None:
        if self._pulse is not None and self.parting is None:
            self._pulse.follow_up()

    def acknowledged(self, total: int) -> int:
        if self._asks and self._pulse is not None:
            return self._pulse.pongs.acknowledged(total)
        return super().acknowledged(total)

    def _hear(self, data: memoryview) -> None:
        reader = self._reader
        pulse = self._pulse
        if pulse is None or reader.is_over():
            return
        pulse.heard()
        reader.feed(data, len(data))
        if reader.pongs:
            if pulse.answered(reader.pongs):
                self.moved()
            reader.pongs.clear()
        if reader.ping is not None:
            payload, reader.ping = reader.ping, None
            self.say(control_frame(PONG, payload, masked=False))
        if reader.closed is not None:
            self._end(reader.closed.code, f"it closed the connection: {reader.closed}")
        elif reader.error is not None:
            self._end(reader.code, str(reader.error), fault=True)

    def _end(self, code: int, reason: str, *, fault: bool = False) -> None:
        self.say(close_frame(code, masked=False))
        self._told = True
        self.leave(reason, fault=fault)

    def silent(self, reason: str) -> None:
        """Cut it off: it does not answer."""
        self._end(POLICY, reason, fault=True)

    def farewell(self) -> bytes:
        return b"" if self._told else close_frame(GOING_AWAY, masked=False)

    def part(self) -> bool:
        if self._pulse is not None:
            self._pulse.stop()
        return super().part()


class WebSocketServingClient(ServingClient):
    """Sends each message, as one websocket frame, to all consumers that are connected; see ServingClient."""

    def __init__(
        self,
        binding: Binding,
        options: AnyServeOptions,
        house: House,
        *,
        protocol_name: str,
        tls: ServerTls | None = None,
    ) -> None:
        options.check_times(binding.address)
        framing = PLAIN_TEXT if options.frames is Kind.TEXT else PLAIN_BINARY
        super().__init__(binding, options, framing=framing, protocol_name=protocol_name, tls=tls)
        self.handshake_timeout = options.handshake_timeout
        self.house = house
        self.pings = options

    @property
    def acks(self) -> frozenset[Ack]:
        return super().acks | {Ack.PEER}

    @property
    def asks(self) -> bool:
        """Whether its peers are asked how far their messages got."""
        return self._signals is not None and self._signals.ack is Ack.PEER

    def peer(self, sock: socket.socket, origin: str) -> Peer:
        return WebSocketPeer(self, sock, origin)

"""What a stream listener keeps of one connection, and the options that all stream listeners share."""

from __future__ import annotations

import contextlib
import enum
import socket
from dataclasses import dataclass

from producer_pool.contract.options import Duration, Size, option
from producer_pool.model.errors import InvalidOption
from producer_pool.model.framing import LINES, Decoder, Framing
from producer_pool.toolkit.tls_layer import TlsLayer

__all__ = ["Connection", "StreamListenerOptions", "Tail"]


class Tail(enum.Enum):
    """What becomes of an unfinished message at the end of a stream."""

    DISCARD = "discard"
    DELIVER = "deliver"


@dataclass(frozen=True)
class StreamListenerOptions:
    """The options of every listener that reads framed messages from streams."""

    framing: Framing = option(LINES, "how messages are marked off")
    max_message: Size = option(1024 * 1024, "a longer message closes its connection")
    max_connections: int = option(1000, "connections that may be open; one more is refused")
    idle_timeout: Duration | None = option(
        None, "a connection is closed that completes no message for so long"
    )
    tail: Tail = option(Tail.DISCARD, "what becomes of an unfinished message at the end of a stream")

    def check(self, name: str) -> None:
        """
        Check that the numbers can be used; *name* says in errors what they belong to.

        Raises:
            InvalidOption: one cannot.
        """
        if self.max_message < 1:
            raise InvalidOption(f"{name}: max-message must be at least 1 byte")
        if self.max_connections < 1:
            raise InvalidOption(f"{name}: max-connections must be at least 1")
        if self.idle_timeout is not None and self.idle_timeout <= 0:
            raise InvalidOption(f"{name}: idle-timeout must be above 0 seconds; leave it out for none")


class Connection:
    """One connection of a listener. Small, because there may be thousands that say nothing."""

    __slots__ = ("decoder", "layer", "origin", "since", "socket", "unsaid", "unsent")

    def __init__(self, sock: socket.socket, origin: str, decoder: Decoder, since: float) -> None:
        self.socket = sock
        self.origin = origin
        self.decoder = decoder
        self.layer: TlsLayer | None = None
        self.since = since
        """When it began, or completed its last message, in seconds of the loop's clock."""
        self.unsaid = b""
        """What the protocol has to answer: a decoder adds to it, and the listener sends it."""
        self.unsent = b""
        """What the kernel did not take yet."""

    @property
    def established(self) -> bool:
        """Whether messages may come."""
        return self.layer is None or self.layer.ready

    def answer(self, data: bytes) -> bool:
        """Send *data* after what is unsent, and return whether anything is left; OSError: it is gone."""
        data = self.unsent + data
        if data:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                data = data[self.socket.send(data) :]
        self.unsent = data
        return bool(data)

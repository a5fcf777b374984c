"""What a stream listener keeps of one connection, and the options that all stream listeners share."""

from __future__ import annotations

import contextlib
import enum
import socket
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer_pool.contract.options import Duration, Size, option
from producer_pool.model.batch import Batch
from producer_pool.model.errors import FramingError, InvalidOption
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.framing import LINES, Decoder, Framing

if TYPE_CHECKING:
    from producer_pool.toolkit.streams.tls_layer import TlsLayer

__all__ = ["AckAfter", "Connection", "FramedConnection", "StreamListenerOptions", "Tail"]


class Tail(enum.Enum):
    """What becomes of an unfinished message at the end of a stream."""

    DISCARD = "discard"
    DELIVER = "deliver"


class AckAfter(enum.Enum):
    """What has to have happened to a message before its sender is told that we have it."""

    RECEIVED = "received"
    STORED = "stored"
    DELIVERED = "delivered"


@dataclass(frozen=True, eq=False, repr=False)
class StreamListenerOptions(Fieldwise):
    """The options of every listener that reads framed messages from streams."""

    framing: Framing = option(LINES, "how messages are marked off")
    max_message: Size = option(1024 * 1024, "a longer message closes its connection")
    max_connections: int = option(1000, "connections that may be open; one more is refused")
    idle_timeout: Duration | None = option(
        None, "a connection is closed that completes no message for so long"
    )
    tail: Tail = option(Tail.DISCARD, "what becomes of an unfinished message at the end of a stream")
    max_delay: Duration | None = option(
        None, "how long messages may be held up to go on together, where many come; left out: not at all"
    )
    ack_after: AckAfter | None = option(
        None, "acknowledge to senders, on their connection, what came so far; left out: they are not answered"
    )

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
        if self.max_delay is not None:
            if self.max_delay <= 0:
                raise InvalidOption(f"{name}: max-delay must be above 0 seconds; leave it out for none")
            if self.ack_after is not None:
                raise InvalidOption(
                    f"{name}: max-delay joins what several senders sent, and ack-after answers each of them; "
                    "leave one out"
                )


class Connection(ABC):
    """
    One connection of a listener: its socket, what it makes of the bytes, and what it has to answer.

    Small, because there may be thousands that say nothing.
    """

    __slots__ = ("bite", "deaf", "layer", "origin", "parting", "since", "socket", "unsaid", "unsent")

    def __init__(self, sock: socket.socket, origin: str, since: float) -> None:
        self.socket = sock
        self.origin = origin
        self.layer: TlsLayer | None = None
        self.since = since
        """When it began, or completed its last message, in seconds of the loop's clock."""
        self.unsaid = b""
        """What the protocol has to answer: whoever reads adds to it, and the listener sends it."""
        self.unsent = b""
        """What the kernel did not take yet."""
        self.bite = 0
        """
        Bytes that are read at once, where they may make much more work than their number says, or much
        more bytes; 0: as many as there are.
        """
        self.parting = False
        """Whether it has only to be closed by the other side. Nothing is read from it any more."""
        self.deaf = False
        """Whether what comes is left waiting: see Acknowledging."""

    # -- what a protocol makes of it ---------------------------------------------------------------

    @abstractmethod
    def receive(self, data: bytearray, size: int, now: float) -> Batch | None:
        """
        Take the first *size* bytes of *data*, and return the messages that are whole now.

        *data* may be overwritten afterwards. What wants an answer is put into `unsaid`.
        """

    @property
    @abstractmethod
    def error(self) -> FramingError | None:
        """Set once the other side broke a rule: nothing after that is read, and the listener closes."""

    @property
    @abstractmethod
    def tail(self) -> int:
        """Bytes of an unfinished message that came."""

    def finish(self) -> bytes | None:
        """Return the unfinished message at the end of the stream, as far as it came, and forget it."""
        return None

    @property
    def established(self) -> bool:
        """Whether messages may come."""
        return self.layer is None or self.layer.ready

    @property
    def handshake(self) -> str:
        """What is missing until it is established, for people."""
        return "TLS handshake"

    @property
    def ended(self) -> bool:
        """Whether the other side said, in the words of the protocol, that nothing follows."""
        return False

    def farewell(self, *, evicted: bool) -> bytes | None:
        """
        Return what tells the other side that we end the connection; ``b""``: it was told before.

        *evicted* is whether it is at fault. None: this protocol has no words for it, and the connection
        is just closed.
        """
        return None

    def heard(self, now: float) -> None:
        """Be told that it did all it could until *now*: nobody was quiet or slow."""
        self.since = now

    # -- answers -----------------------------------------------------------------------------------

    def answer(self, data: bytes) -> bool:
        """Send *data* after what is unsent, and return whether anything is left; OSError: it is gone."""
        data = self.unsent + data
        if data:
            with contextlib.suppress(BlockingIOError, InterruptedError):
                data = data[self.socket.send(data) :]
        self.unsent = data
        return bool(data)


class FramedConnection(Connection):
    """A connection whose bytes are the frames of a framing, and pass through as they are."""

    __slots__ = ("decoder", "error", "framing")

    error: FramingError | None
    ended = False

    def __init__(
        self, sock: socket.socket, origin: str, since: float, *, framing: Framing, decoder: Decoder
    ) -> None:
        super().__init__(sock, origin, since)
        self.framing = framing
        self.decoder = decoder
        self.error = None

    def receive(self, data: bytearray, size: int, now: float) -> Batch | None:
        decoder = self.decoder
        wire = decoder.feed(data, size)
        self.error = decoder.error
        if not wire:
            return None
        self.since = now
        return Batch.from_wire(wire, self.framing, decoder.frames, received=now, origin=self.origin)

    @property
    def tail(self) -> int:
        return self.decoder.tail

    def finish(self) -> bytes | None:
        return self.decoder.finish()

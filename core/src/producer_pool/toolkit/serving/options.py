"""What may be said of peers, consumers that connect to us, and what is counted of them."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from producer_pool.contract.options import Duration, Size, option
from producer_pool.model.errors import InvalidOption

__all__ = ["PeerOverflow", "ServingOptions", "ServingStats"]


class PeerOverflow(enum.Enum):
    """What becomes of a peer that reads too slowly, or of its messages. The other peers never notice."""

    DISCONNECT = "disconnect"
    DROP_NEWEST = "drop-newest"
    DROP_OLDEST = "drop-oldest"


@dataclass(frozen=True)
class ServingOptions:
    """The options of every client that consumers connect to."""

    max_message: Size = option(1024 * 1024, "longer messages are rejected")
    max_peers: int = option(1000, "consumers that may be connected; one more is refused")
    min_peers: int = option(
        1, "while fewer are connected, messages fail at once; 0: they are delivered to nobody"
    )
    peer_buffer: Size = option(1024 * 1024, "bytes that may wait for one consumer which reads too slowly")
    peer_overflow: PeerOverflow = option(
        PeerOverflow.DISCONNECT, "what happens when that is full; the other consumers never notice"
    )
    peer_timeout: Duration | None = option(
        None, "a consumer is cut off that takes nothing for so long; left out, or longer: half of timeout"
    )

    def check(self, name: str) -> None:
        """
        Check that the numbers can be used; *name* says in errors what they belong to.

        Raises:
            InvalidOption: one cannot.
        """
        for word, value, least in (
            ("max-message", self.max_message, "1 byte"),
            ("peer-buffer", self.peer_buffer, "1 byte"),
            ("max-peers", self.max_peers, "1"),
        ):
            if value < 1:
                raise InvalidOption(f"{name}: {word} must be at least {least}")
        if not 0 <= self.min_peers <= self.max_peers:
            raise InvalidOption(f"{name}: min-peers must be from 0 to max-peers, which is {self.max_peers}")
        if self.peer_timeout is not None and self.peer_timeout <= 0:
            raise InvalidOption(f"{name}: peer-timeout must be above 0 seconds")


@dataclass(slots=True)
class ServingStats:
    """Counters of one serving client since it was made."""

    accepted: int = 0
    """Connections taken."""
    joined: int = 0
    """Those that were then served: all, unless a handshake comes first."""
    refused: int = 0
    """Connections closed at once, because as many as allowed were open."""
    evicted: int = 0
    """Peers that were cut off: too slow, stalled, or against the rules of their protocol."""
    missed: int = 0
    """Messages that one peer did not get, though it was connected: summed over all peers."""

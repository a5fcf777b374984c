"""Compressed messages: the extension permessage-deflate, RFC 7692."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from websockets.exceptions import PayloadTooBig, ProtocolError
from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    ServerPerMessageDeflateFactory,
)
from websockets.frames import Frame, Opcode

from producer_pool.plugin import Framing, FramingError, MessageTooLarge
from producer_pool_websocket.frames import (
    BINARY,
    FIN,
    MASKED_BINARY,
    MASKED_TEXT,
    RSV1,
    TEXT,
    Frames,
    head,
)

__all__ = [
    "DEFLATED",
    "DeflatedFrames",
    "Inflater",
    "client_extensions",
    "server_extensions",
]

_EMPTY_BLOCK: Final = b"\0\0\xff\xff"
"""Ends what Z_SYNC_FLUSH makes, and is left out: RFC 7692, 7.2.1."""
_WORTH: Final = 64
"""Bytes from which on a message is compressed: smaller ones do not get smaller."""


def client_extensions() -> Sequence[ClientExtensionFactory]:
    """
    Return what a client offers.

    It does not take over one message's context into the next: so a message is compressed once for
    all consumers, and nothing is kept for each of them.
    """
    return [
        ClientPerMessageDeflateFactory(
            server_no_context_takeover=False, client_no_context_takeover=True, client_max_window_bits=None
        )
    ]


def server_extensions() -> Sequence[ServerExtensionFactory]:
    """Return what a listener accepts. Those who connect may take over their context: it is their choice."""
    return [ServerPerMessageDeflateFactory(server_no_context_takeover=True)]


class Inflater:
    """Decompresses what one side of one connection says."""

    def __init__(self, extensions: Sequence[Extension]) -> None:
        (self._extension,) = extensions

    def inflate(self, first: int, body: bytes, most: int) -> bytes:
        """
        Return the payload of a data frame whose first byte is *first*.

        Raises:
            MessageTooLarge: it has more than *most* bytes. No more than that is ever made of it.
            FramingError: it cannot be decompressed.
        """
        frame = Frame(Opcode(first & 0x0F), body, bool(first & FIN), bool(first & RSV1))
        try:
            # The library takes 0 for no limit.
            payload = bytes(self._extension.decode(frame, max_size=max(most, 1)).data)
        except PayloadTooBig:
            raise MessageTooLarge(most) from None
        except ProtocolError as error:
            raise FramingError(f"a compressed message that is none: {error}") from None
        if len(payload) > most:
            raise MessageTooLarge(most)
        return payload


class DeflatedFrames(Frames):
    """Frames with compressed messages, where that makes them smaller. No message needs the one before it."""

    def encode(self, messages: Sequence[bytes]) -> bytes:
        heads = []
        payloads = []
        for message in messages:
            first, payload = self._payload(message)
            heads.append(head(first, len(payload), self._mask))
            payloads.append(payload)
        return self._join(heads, payloads)

    def _payload(self, message: bytes) -> tuple[int, bytes]:
        """Return a first byte, and what the frame holds: the message compressed, or as it is."""
        if len(message) >= _WORTH:
            deflated = _deflated(message)
            if len(deflated) < len(message):
                return FIN | RSV1 | self._opcode, deflated
        return FIN | self._opcode, message

    def split(self, wire: bytes) -> list[bytes]:
        return [_inflated(payload) if first & RSV1 else payload for first, payload in self._frames(wire)]


def _deflated(message: bytes) -> bytes:
    encoder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return (encoder.compress(message) + encoder.flush(zlib.Z_SYNC_FLUSH))[: -len(_EMPTY_BLOCK)]


def _inflated(payload: bytes) -> bytes:
    return zlib.decompressobj(wbits=-zlib.MAX_WBITS).decompress(payload + _EMPTY_BLOCK)


DEFLATED: Final[Mapping[Framing, Framing]] = {
    MASKED_TEXT: DeflatedFrames("websocket-masked-text-deflated", TEXT, masked=True),
    MASKED_BINARY: DeflatedFrames("websocket-masked-binary-deflated", BINARY, masked=True),
}
"""The compressed form of what a client sends."""

"""Compressed messages: the extension permessage-deflate, RFC 7692."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Final

from websockets.extensions import ClientExtensionFactory, Extension, ServerExtensionFactory
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)

from producer_pool.plugin import Framing, FramingError, MessageTooLarge
from producer_pool_websocket.frames import (
    BINARY,
    FIN,
    MASKED_BINARY,
    MASKED_TEXT,
    RSV1,
    TEXT,
    Frames,
)
from producer_pool_websocket.runs import head, join_frames

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
_LARGER: Final = 8
"""Compression makes nothing larger by more than one byte for so many, and a few."""
_BEGINNINGS: Final = 16
"""Nobody needs more than one or two in a frame, and each costs a copy of the rest of it."""
_OPCODE: Final = 0x0F


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
    """Decompresses what one side of one connection says: RFC 7692, 7.2.2."""

    def __init__(self, extensions: Sequence[Extension]) -> None:
        (agreed,) = extensions
        assert isinstance(agreed, PerMessageDeflate)
        self._forgets: Final = agreed.remote_no_context_takeover
        self._bits: Final = -agreed.remote_max_window_bits
        self._decoder = zlib.decompressobj(self._bits)
        self._deflated = False
        """Whether the message is compressed whose fragments come."""

    def room(self, most: int) -> int:
        """Return how many bytes may have to come for *most*: what does not get smaller gets larger."""
        return most + most // _LARGER + _WORTH

    def inflate(self, first: int, body: bytes, most: int) -> bytes:
        """
        Return the payload of a data frame whose first byte is *first*.

        Raises:
            MessageTooLarge: it has more than *most* bytes. No more than that is ever made of it.
            FramingError: it cannot be decompressed.
        """
        if first & _OPCODE:
            self._deflated = bool(first & RSV1)
        if self._deflated:
            body = self._inflated(body + _EMPTY_BLOCK if first & FIN else body, most)
            if first & FIN and self._forgets:
                self._decoder = zlib.decompressobj(self._bits)
        if len(body) > most:
            raise MessageTooLarge(most)
        return body

    def _inflated(self, body: bytes, most: int) -> bytes:
        payload = b""
        for _ in range(_BEGINNINGS):
            try:
                # Never 0, which would be no limit.
                payload += self._decoder.decompress(body, most + 1 - len(payload))
            except zlib.error:
                raise FramingError("a compressed message that is none: decompression failed") from None
            if len(payload) > most or not self._decoder.eof:
                return payload
            # A block may say that it is the last (RFC 7692, 7.2.3). For zlib all is over then.
            body = self._decoder.unused_data
            self._decoder = zlib.decompressobj(self._bits)
        raise FramingError(f"a compressed message that begins anew {_BEGINNINGS} times")


class DeflatedFrames(Frames):
    """Frames with compressed messages, where that makes them smaller. No message needs the one before it."""

    def encode(self, messages: Sequence[bytes]) -> bytes:
        heads = []
        payloads = []
        for message in messages:
            first, payload = self._payload(message)
            heads.append(head(first, len(payload), self._mask))
            payloads.append(payload)
        return join_frames(heads, payloads, self._keys(len(messages)))

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

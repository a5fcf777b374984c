"""TLS between a socket and a framing: bytes in, bytes out. Clients and listeners share it."""
# Rule: no socket and no loop. What has to be sent is returned: the caller counts the bytes that the kernel
# took, and can tell from those that are acknowledged which messages are.

from __future__ import annotations

import contextlib
import ssl
from typing import Any, Final, cast

__all__ = ["TlsLayer", "whole_plaintext"]

_RECORD: Final = 16384
"""Plaintext bytes of a full record: RFC 8446, 5.1. OpenSSL fills each but the last of a write."""


class TlsLayer:
    """One side of one TLS connection."""

    __slots__ = ("_early", "_error", "_incoming", "_object", "_outgoing", "ended", "ready")

    ready: bool
    """Whether the handshake is done, as far as this side knows."""
    ended: bool
    """Whether the other side said that nothing will follow (close_notify)."""

    def __init__(self, context: ssl.SSLContext, *, server: bool = False, name: str | None = None) -> None:
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._object = context.wrap_bio(
            self._incoming, self._outgoing, server_side=server, server_hostname=name
        )
        self._early = b""
        self._error: ssl.SSLError | None = None
        self.ready = self.ended = False

    @property
    def answers_late(self) -> bool:
        """Whether this side finishes first, so that the other may still refuse its certificate: TLS 1.3."""
        return self._object.version() == "TLSv1.3"

    def receive(self, data: bytes | memoryview) -> None:
        """Take encrypted bytes from the other side."""
        self._incoming.write(data)

    def cut(self) -> None:
        """Be told that nothing more comes from the other side, whatever TLS thinks of that."""
        self._incoming.write_eof()

    def handshake(self) -> bool:
        """
        Go on with the handshake, and return whether it is done.

        Raises:
            ssl.SSLError: it failed. outgoing() has what tells the other side.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        self.ready = True
        return True

    def decrypt_into(self, buffer: memoryview) -> int:
        """
        Write what was received into *buffer* and return its size; 0: no more for now, or `ended`.

        Raises:
            ssl.SSLError: the other side broke a rule, or says that we did. All that came before was
                returned before.
        """
        if self._error is not None:
            raise self._error
        size = len(self._early)
        buffer[:size] = self._early
        self._early = b""
        try:
            while size < len(buffer):
                # Into a buffer, it returns the number of bytes; the type hint knows that as bytes only.
                read = cast("int", self._object.read(len(buffer) - size, cast("Any", buffer[size:])))
                if not read:
                    self.ended = True
                    break
                size += read
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True
        except ssl.SSLError as error:
            if not size:
                raise
            self._error = error
        return size

    def look(self) -> None:
        """
        Find out whether what was received breaks off the connection. The rest is kept for decrypt_into().

        Raises:
            ssl.SSLError: it does.
        """
        with contextlib.suppress(ssl.SSLWantReadError):
            self._early += self._object.read(_RECORD)

    def encrypt(self, plain: bytes) -> bytes:
        """Return *plain* encrypted. outgoing() has to be asked first, or its bytes would be among these."""
        if plain:
            self._object.write(plain)
        return self._outgoing.read()

    def outgoing(self) -> bytes:
        """Return what has to be sent on behalf of TLS itself."""
        return self._outgoing.read() if self._outgoing.pending else b""

    def close(self) -> bytes:
        """Return what tells the other side that nothing follows."""
        # The other side's answer is missing, and nobody waits for it; or there was no handshake.
        with contextlib.suppress(ssl.SSLError):
            self._object.unwrap()
        return self.outgoing()


def whole_plaintext(reached: int, size: int, plain: int) -> int:
    """
    Return how much of a batch of *plain* bytes, encrypted to *size*, the first *reached* bytes hold for sure.

    A record counts only when it is whole: nothing of it can be decrypted before (RFC 8446, 5.2).
    """
    if reached >= size:
        return plain
    records = -(-plain // _RECORD)
    overhead, odd = divmod(size - plain, records)
    # With ciphers that pad, records differ in their overhead: then only the whole batch counts.
    return 0 if odd else min(plain, reached // (_RECORD + overhead) * _RECORD)

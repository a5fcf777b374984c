"""TLS between a socket and a framing: bytes in, bytes out. Clients and listeners share it."""
# Rule: no socket and no loop. What has to be sent is returned: the caller counts the bytes that the kernel
# took, and can tell from those that are acknowledged which messages are.

from __future__ import annotations

import contextlib
import ssl
from typing import Any, cast

from producer_pool.toolkit.streams.tls_faults import why_tls
from producer_pool.toolkit.streams.tls_records import RECORD, TlsError

__all__ = ["TlsLayer"]


class TlsLayer:
    """One side of one TLS connection."""

    __slots__ = ("_early", "_error", "_incoming", "_name", "_object", "_outgoing", "ended", "ready")

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
        self._name = name or ""
        self._early = b""
        self._error: TlsError | None = None
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
            TlsError: it failed. outgoing() has what tells the other side.
        """
        try:
            self._object.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise self._failure(error) from error
        self.ready = True
        return True

    def decrypt_into(self, buffer: memoryview) -> int:
        """
        Write what was received into *buffer* and return its size; 0: no more for now, or `ended`.

        Raises:
            TlsError: the connection broke off. All that came before was returned before.
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
            failure = self._failure(error)
            if not size:
                raise failure from error
            self._error = failure
        return size

    def look(self) -> None:
        """
        Find out whether what was received breaks off the connection. The rest is kept for decrypt_into().

        Raises:
            TlsError: it does.
        """
        try:
            self._early += self._object.read(RECORD)
        except ssl.SSLWantReadError:
            return
        except ssl.SSLError as error:
            raise self._failure(error) from error

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

    def _failure(self, error: ssl.SSLError) -> TlsError:
        return TlsError(why_tls(error, self._name))

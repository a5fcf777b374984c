"""What the URLs of ws and wss may say."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from producer_pool.plugin import (
    Duration,
    InvalidOption,
    ServingOptions,
    Size,
    StreamListenerOptions,
    TcpOptions,
    TlsClientOptions,
    TlsListenerOptions,
    option,
)

__all__ = [
    "AnyListenerOptions",
    "AnyServeOptions",
    "ClientOptions",
    "Compression",
    "Kind",
    "ListenerOptions",
    "PingOptions",
    "SecureClientOptions",
    "SecureListenerOptions",
    "SecureServeOptions",
    "ServeOptions",
    "ServerOptions",
]


_REMOTE: Final = "listen where other machines can connect, though nothing asks who they are"
_SLOW: Final = "a connection is closed whose handshake takes longer"


class Kind(enum.Enum):
    """What a frame says that its message is: RFC 6455, 5.6."""

    TEXT = "text"
    BINARY = "binary"


class Compression(enum.Enum):
    """The extension that compresses messages."""

    NONE = "none"
    DEFLATE = "deflate"


@dataclass(frozen=True)
class PingOptions:
    """How a quiet connection is kept, and found out about when it is gone."""

    ping_interval: Duration = option(20.0, "ask a quiet other side so often whether it is there; 0: never")
    ping_timeout: Duration = option(20.0, "a connection is given up whose ping has no answer for so long")

    def check_pings(self, name: str) -> None:
        """
        Check that the times can be used; *name* says in errors what they belong to.

        Raises:
            InvalidOption: one cannot.
        """
        if self.ping_timeout <= 0:
            raise InvalidOption(f"{name}: ping-timeout must be above 0 seconds")


@dataclass(frozen=True)
class ClientOptions(PingOptions, TcpOptions):
    """What the URL of a consumer may say: ``ws://host:port/path?...``."""

    frames: Kind = option(Kind.TEXT, "what messages are sent as; text has to be UTF-8")
    max_message: Size = option(1024 * 1024, "longer messages are rejected; most consumers have a limit, too")
    compression: Compression = option(Compression.NONE, "deflate: compress messages, if the consumer agrees")
    subprotocol: tuple[str, ...] = option(
        (), "the consumer has to speak one of these; the first is the dearest"
    )
    origin: str | None = option(None, "say that we are a page from there, as in https://example.org")
    query: str | None = option(None, "what stands after the ? in the address that is asked for", secret=True)
    token_file: Path | None = option(None, "file with a token, which proves who we are (RFC 6750)")
    headers_file: Path | None = option(None, "file with header lines, as in X-Room: 5, that are sent, too")


@dataclass(frozen=True)
class SecureClientOptions(TlsClientOptions, ClientOptions):
    """What the URL of a consumer may say: ``wss://host:port/path?...``."""


@dataclass(frozen=True)
class ServerOptions(PingOptions):
    """Who may connect, and how: what listeners share with those who serve."""

    subprotocol: tuple[str, ...] = option((), "who connects has to offer one of these")
    origin: tuple[str, ...] = option((), "pages that may connect, as in https://example.org; *: any")
    require_origin: bool = option(False, "refuse who is no page: programs do not say where they come from")
    token_file: Path | None = option(None, "file with the token that who connects has to have (RFC 6750)")
    handshake_timeout: Duration = option(10.0, _SLOW)

    def check_times(self, name: str) -> None:
        """
        Check that the times can be used; *name* says in errors what they belong to.

        Raises:
            InvalidOption: one cannot.
        """
        self.check_pings(name)
        if self.handshake_timeout <= 0:
            raise InvalidOption(f"{name}: handshake-timeout must be above 0 seconds")


@dataclass(frozen=True)
class AnyListenerOptions(ServerOptions):
    """What the URL of a listener may say, with TLS or without."""

    max_message: Size = option(1024 * 1024, "a longer message closes its connection; counted decompressed")
    compression: Compression = option(Compression.NONE, "deflate: take compressed messages, too")
    max_connections: int = option(1000, "connections that may be open; one more is refused")
    idle_timeout: Duration | None = option(
        None, "a connection is closed that completes no message for so long"
    )

    def limits(self) -> StreamListenerOptions:
        """Return the part that concerns every listener."""
        return StreamListenerOptions(
            max_message=self.max_message,
            max_connections=self.max_connections,
            idle_timeout=self.idle_timeout,
        )


@dataclass(frozen=True)
class ListenerOptions(AnyListenerOptions):
    """What the URL of a listener may say: ``ws://host:port/path?...``."""

    allow_remote: bool = option(False, _REMOTE)


@dataclass(frozen=True)
class SecureListenerOptions(TlsListenerOptions, AnyListenerOptions):
    """What the URL of a listener may say: ``wss://host:port/path?tls-cert=...&tls-key=...``."""

    handshake_timeout: Duration = option(10.0, _SLOW)


@dataclass(frozen=True)
class AnyServeOptions(ServerOptions, TcpOptions, ServingOptions):
    """What the URL of a client may say that consumers connect to, with TLS or without."""

    frames: Kind = option(Kind.TEXT, "what messages are sent as; text has to be UTF-8")


@dataclass(frozen=True)
class ServeOptions(AnyServeOptions):
    """What the URL of a client may say that consumers connect to: ``ws+serve://host:port/path?...``."""

    allow_remote: bool = option(False, _REMOTE)


@dataclass(frozen=True)
class SecureServeOptions(TlsListenerOptions, AnyServeOptions):
    """The same with TLS: ``wss+serve://host:port/path?tls-cert=...&tls-key=...``."""

    handshake_timeout: Duration = option(10.0, _SLOW)

"""``signed://host:port?key-file=...``: lines over TCP, each with a signature that says who wrote it."""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from producer_pool.plugin import (
    TCP_ACKS,
    Endpoint,
    EnvelopeFraming,
    FramingError,
    InvalidOption,
    Size,
    StreamClient,
    StreamClientOptions,
    StreamListener,
    StreamListenerOptions,
    TcpBinding,
    TcpDialer,
    TcpOptions,
    Transport,
    hookimpl,
    option,
    why,
)


class SignedLines(EnvelopeFraming):
    """A line for each message: its HMAC-SHA256 in hexadecimal digits, a space, and the message."""

    name = "signed"

    def __init__(self, key: bytes) -> None:
        self._key = key

    def wrap(self, message: bytes) -> bytes:
        return self._signature(message) + b" " + message

    def check(self, envelope: bytes) -> None:
        signature, _, message = envelope.partition(b" ")
        if not hmac.compare_digest(signature, self._signature(message)):
            raise FramingError("a line is not signed with our key")

    def unwrap(self, envelope: bytes) -> bytes:
        return envelope.partition(b" ")[2]

    def _signature(self, message: bytes) -> bytes:
        return hmac.digest(self._key, message, "sha256").hex().encode()


@dataclass(frozen=True)
class SignedOptions:
    """What the URL of either end may say."""

    key_file: Path | None = option(None, "file with the key that both ends share; needed")
    max_message: Size = option(1024 * 1024, "longer messages are rejected")

    def framing(self, endpoint: Endpoint) -> SignedLines:
        """Read the key. No error shows it: one that stands in the URL is refused as an unknown option."""
        endpoint.no_more_than_host_and_port()
        if self.key_file is None:
            raise InvalidOption(f"{endpoint}: the option key-file is needed; it names a file with the key")
        try:
            key = self.key_file.read_bytes().strip()
        except OSError as error:
            raise InvalidOption(f"{endpoint}: cannot read the key: {why(error)}") from None
        if len(key) < 16:
            raise InvalidOption(f"{endpoint}: the key is shorter than 16 bytes; try: openssl rand -hex 32")
        return SignedLines(key)


@dataclass(frozen=True)
class SignedClientOptions(TcpOptions, SignedOptions):
    """What the URL of a consumer may say."""


class SignedClient(StreamClient):
    """Signs messages and sends them to one consumer."""

    def __init__(self, endpoint: Endpoint, options: SignedClientOptions) -> None:
        stream = StreamClientOptions(options.framing(endpoint), options.max_message)
        super().__init__(TcpDialer(endpoint, options), stream, protocol_name="signed")


class SignedListener(StreamListener):
    """Receives signed messages. A connection that brings anything else is closed."""

    def __init__(self, endpoint: Endpoint, options: SignedOptions) -> None:
        stream = StreamListenerOptions(options.framing(endpoint), options.max_message)
        # Other machines may connect: unlike plain tcp, this protocol asks who they are.
        super().__init__(TcpBinding(endpoint, allow_remote=True), stream)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer the scheme, with what it guarantees."""
    yield Transport(
        schemes=("signed",),
        client=SignedClient,
        listener=SignedListener,
        options=SignedClientOptions,
        listener_options=SignedOptions,
        acks=TCP_ACKS,
    )

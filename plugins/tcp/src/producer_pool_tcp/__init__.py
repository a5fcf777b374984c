"""
The TCP transports of Producer Pool: framed messages in a TCP stream, plain or with TLS.

tcp and tcp+tls have both ends; tcp+serve and tcp+tls+serve are clients that consumers connect to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producer_pool.plugin import (
    LINES,
    TCP_ACKS,
    Ack,
    AcknowledgedClient,
    Client,
    Endpoint,
    Framing,
    Listener,
    ServingClient,
    ServingOptions,
    StreamClientOptions,
    StreamListener,
    StreamListenerOptions,
    TcpBinding,
    TcpDialer,
    TcpOptions,
    TlsClientOptions,
    TlsListenerOptions,
    Transport,
    client_tls,
    hookimpl,
    option,
    server_tls,
)

__version__ = "0.1.0"

__all__ = [
    "ClientOptions",
    "ListenerOptions",
    "SecureClientOptions",
    "SecureListenerOptions",
    "SecureServeOptions",
    "ServeOptions",
    "__version__",
    "producer_pool_transports",
]


@dataclass(frozen=True)
class ClientOptions(TcpOptions, StreamClientOptions):
    """What the URL of a consumer may say: ``tcp://host:port?...``."""


@dataclass(frozen=True)
class ListenerOptions(StreamListenerOptions):
    """What the URL of a listener may say: ``tcp://host:port?...``."""

    allow_remote: bool = option(
        False, "listen where other machines can connect, though nothing asks who they are"
    )


@dataclass(frozen=True)
class SecureClientOptions(TlsClientOptions, ClientOptions):
    """What the URL of a consumer may say: ``tcp+tls://host:port?...``."""


@dataclass(frozen=True)
class SecureListenerOptions(TlsListenerOptions, StreamListenerOptions):
    """What the URL of a listener may say: ``tcp+tls://host:port?tls-cert=...&tls-key=...``."""


@dataclass(frozen=True)
class _ServeOptions(TcpOptions, ServingOptions):
    framing: Framing = option(LINES, "how messages are marked off")


@dataclass(frozen=True)
class ServeOptions(_ServeOptions):
    """What the URL of a client may say that consumers connect to: ``tcp+serve://host:port?...``."""

    allow_remote: bool = option(
        False, "listen where other machines can connect, though nothing asks who they are"
    )


@dataclass(frozen=True)
class SecureServeOptions(TlsListenerOptions, _ServeOptions):
    """The same with TLS: ``tcp+tls+serve://host:port?tls-cert=...&tls-key=...``."""


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    dialer = TcpDialer(endpoint, options)
    tls = None
    if isinstance(options, SecureClientOptions):
        tls = client_tls(options, dialer.name, where=dialer.address)
    return AcknowledgedClient(dialer, options, protocol_name=endpoint.scheme, tls=tls)


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    return StreamListener(TcpBinding(endpoint, allow_remote=options.allow_remote), options)


def _secure_listener(endpoint: Endpoint, options: SecureListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=True)
    return StreamListener(binding, options, tls=server_tls(options, where=binding.address))


def _serve(endpoint: Endpoint, options: ServeOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=options.allow_remote, options=options)
    return ServingClient(binding, options, framing=options.framing, protocol_name=endpoint.scheme)


def _secure_serve(endpoint: Endpoint, options: SecureServeOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=True, options=options)
    tls = server_tls(options, where=binding.address)
    return ServingClient(binding, options, framing=options.framing, protocol_name=endpoint.scheme, tls=tls)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer all schemes. Only Linux tells what was acknowledged: elsewhere WRITTEN is the highest level."""
    yield Transport(
        schemes=("tcp",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks=TCP_ACKS | {Ack.APP},
        loopback="tcp://127.0.0.1:0",
    )
    yield Transport(
        schemes=("tcp+tls",),
        client=_client,
        listener=_secure_listener,
        options=SecureClientOptions,
        listener_options=SecureListenerOptions,
        acks=TCP_ACKS | {Ack.APP},
        loopback="tcp+tls://127.0.0.1:0",
    )
    yield Transport(
        schemes=("tcp+serve",),
        client=_serve,
        options=ServeOptions,
        acks=TCP_ACKS,
        loopback="tcp+serve://127.0.0.1:0",
    )
    yield Transport(
        schemes=("tcp+tls+serve",),
        client=_secure_serve,
        options=SecureServeOptions,
        acks=TCP_ACKS,
        loopback="tcp+tls+serve://127.0.0.1:0",
    )

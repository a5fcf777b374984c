"""tcp+tls: both ends of a stream with TLS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producer_pool.plugin import (
    TCP_ACKS,
    Ack,
    AcknowledgedClient,
    Client,
    Endpoint,
    Listener,
    StreamListener,
    StreamListenerOptions,
    TcpBinding,
    TcpDialer,
    TlsClientOptions,
    TlsListenerOptions,
    Transport,
    client_tls,
    hookimpl,
    server_tls,
)
from producer_pool_tcp.plain import ClientOptions

__all__ = ["SecureClientOptions", "SecureListenerOptions", "producer_pool_transports"]


@dataclass(frozen=True)
class SecureClientOptions(TlsClientOptions, ClientOptions):
    """What the URL of a consumer may say: ``tcp+tls://host:port?...``."""


@dataclass(frozen=True)
class SecureListenerOptions(TlsListenerOptions, StreamListenerOptions):
    """What the URL of a listener may say: ``tcp+tls://host:port?tls-cert=...&tls-key=...``."""


def _client(endpoint: Endpoint, options: SecureClientOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    dialer = TcpDialer(endpoint, options)
    tls = client_tls(options, dialer.name, where=dialer.address)
    return AcknowledgedClient(dialer, options, protocol_name=endpoint.scheme, tls=tls)


def _listener(endpoint: Endpoint, options: SecureListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=True)
    return StreamListener(binding, options, tls=server_tls(options, where=binding.address))


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer tcp+tls. Only Linux tells what was acknowledged, as with tcp."""
    yield Transport(
        schemes=("tcp+tls",),
        client=_client,
        listener=_listener,
        options=SecureClientOptions,
        listener_options=SecureListenerOptions,
        acks=TCP_ACKS | {Ack.APP},
        loopback="tcp+tls://127.0.0.1:0",
    )

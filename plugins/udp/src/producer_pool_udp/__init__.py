"""The udp transport of Producer Pool, both ends: each datagram is a message."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producer_pool.plugin import (
    UDP_MAX_MESSAGE,
    Ack,
    Client,
    DatagramClient,
    DatagramClientOptions,
    DatagramListener,
    DatagramListenerOptions,
    Endpoint,
    Listener,
    Transport,
    UdpBinding,
    UdpDialer,
    UdpListenerOptions,
    UdpOptions,
    hookimpl,
)

__version__ = "0.1.0"

__all__ = ["ClientOptions", "ListenerOptions", "__version__", "producer_pool_transports"]


@dataclass(frozen=True)
class ClientOptions(UdpOptions, DatagramClientOptions):
    """What the URL of a consumer may say: ``udp://host:port?...``."""


@dataclass(frozen=True)
class ListenerOptions(UdpListenerOptions, DatagramListenerOptions):
    """What the URL of a listener may say: ``udp://host:port?...``."""


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    return DatagramClient(UdpDialer(endpoint, options), options, protocol_name=endpoint.scheme)


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    return DatagramListener(UdpBinding(endpoint, options), options)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer the scheme. A network may lose, double and reorder datagrams, and nobody acknowledges one."""
    yield Transport(
        schemes=("udp",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks={Ack.WRITTEN},
        ordered=False,
        max_message=UDP_MAX_MESSAGE,
        # There every message arrives as it was sent: see the option strip.
        loopback="udp://127.0.0.1:0?strip=no",
    )

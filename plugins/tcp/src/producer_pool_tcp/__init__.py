"""The tcp transport of Producer Pool, both ends: framed messages in a TCP stream."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producer_pool.plugin import (
    TCP_ACKS,
    Client,
    Endpoint,
    Listener,
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
)

__version__ = "0.1.0"

__all__ = ["ClientOptions", "ListenerOptions", "__version__", "producer_pool_transports"]


@dataclass(frozen=True)
class ClientOptions(TcpOptions, StreamClientOptions):
    """What a consumer's URL may say: ``tcp://host:port?...``."""


@dataclass(frozen=True)
class ListenerOptions(StreamListenerOptions):
    """What a listener's URL may say: ``tcp://host:port?...``."""

    allow_remote: bool = option(
        False, "listen where other machines can connect, though nothing asks who they are"
    )


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    return StreamClient(TcpDialer(endpoint, options), options, protocol_name="tcp")


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    return StreamListener(TcpBinding(endpoint, allow_remote=options.allow_remote), options)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer ``tcp``. Without SIOCOUTQ, which is Linux's, the highest level is WRITTEN."""
    yield Transport(
        schemes=("tcp",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks=TCP_ACKS,
    )

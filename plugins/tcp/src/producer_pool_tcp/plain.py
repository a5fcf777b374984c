"""tcp: both ends of a stream without TLS."""

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

__all__ = ["ClientOptions", "ListenerOptions", "producer_pool_transports"]


# Every start needs both: they are compared and shown by what they inherit, and not by code compiled for them.
@dataclass(frozen=True, eq=False, repr=False)
class ClientOptions(TcpOptions, StreamClientOptions):
    """What the URL of a consumer may say: ``tcp://host:port?...``."""


@dataclass(frozen=True, eq=False, repr=False)
class ListenerOptions(StreamListenerOptions):
    """What the URL of a listener may say: ``tcp://host:port?...``."""

    allow_remote: bool = option(
        False, "listen where other machines can connect, though nothing asks who they are"
    )


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    return AcknowledgedClient(TcpDialer(endpoint, options), options, protocol_name=endpoint.scheme)


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    endpoint.no_more_than_host_and_port()
    return StreamListener(TcpBinding(endpoint, allow_remote=options.allow_remote), options)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer tcp. Only Linux tells what was acknowledged: elsewhere WRITTEN is the highest level."""
    yield Transport(
        schemes=("tcp",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks=TCP_ACKS | {Ack.APP},
        loopback="tcp://127.0.0.1:0",
    )

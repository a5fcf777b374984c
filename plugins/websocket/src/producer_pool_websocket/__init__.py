"""The websocket transports of Producer Pool, both ends: a message is a websocket message."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING

from producer_pool.plugin import (
    TCP_ACKS,
    Ack,
    Client,
    Endpoint,
    Listener,
    ServerTls,
    TcpBinding,
    TcpDialer,
    TlsListenerOptions,
    Transport,
    client_tls,
    hookimpl,
    server_tls,
)
from producer_pool_websocket.answering import House
from producer_pool_websocket.asking import wish_of
from producer_pool_websocket.client import WebSocketClient
from producer_pool_websocket.listener import WebSocketListener
from producer_pool_websocket.options import (
    AnyListenerOptions,
    AnyServeOptions,
    ClientOptions,
    Compression,
    ListenerOptions,
    SecureClientOptions,
    SecureListenerOptions,
    SecureServeOptions,
    ServeOptions,
    ServerOptions,
)
from producer_pool_websocket.serving import WebSocketServingClient

if TYPE_CHECKING:
    from producer_pool.testing import Trial, TrialConsumer

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


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    dialer = TcpDialer(endpoint, options)
    wish = partial(wish_of, endpoint, options, where=dialer.address)
    tls = None
    if isinstance(options, SecureClientOptions):
        tls = client_tls(options, dialer.name, where=dialer.address)
    return WebSocketClient(dialer, options, wish, protocol_name=endpoint.scheme, tls=tls)


def _listener(endpoint: Endpoint, options: AnyListenerOptions) -> Listener:
    house = House.of(endpoint, options, compresses=options.compression is Compression.DEFLATE)
    binding = TcpBinding(endpoint, allow_remote=_is_protected(options, house))
    return WebSocketListener(binding, options, house, tls=_tls(options, binding.address))


def _serve(endpoint: Endpoint, options: AnyServeOptions) -> Client:
    house = House.of(endpoint, options)
    binding = TcpBinding(endpoint, allow_remote=_is_protected(options, house), options=options)
    return WebSocketServingClient(
        binding, options, house, protocol_name=endpoint.scheme, tls=_tls(options, binding.address)
    )


def _is_protected(options: ServerOptions, house: House) -> bool:
    """Whether others may reach it: it asks who they are, it is encrypted, or somebody said so."""
    if isinstance(options, ListenerOptions | ServeOptions):
        return options.allow_remote or house.token is not None
    return True


def _tls(options: ServerOptions, where: str) -> ServerTls | None:
    return server_tls(options, where=where) if isinstance(options, TlsListenerOptions) else None


def _trial_consumer(trial: Trial) -> TrialConsumer:
    from producer_pool_websocket.consuming import DialingWebSocket

    return DialingWebSocket(trial, tls=trial.subject.scheme == "wss+serve")


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer all schemes. PEER is a pong; KERNEL is there where the kernel tells what was acknowledged."""
    acks = TCP_ACKS | {Ack.PEER}
    yield Transport(
        schemes=("ws",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks=acks,
        loopback="ws://127.0.0.1:0",
    )
    yield Transport(
        schemes=("wss",),
        client=_client,
        listener=_listener,
        options=SecureClientOptions,
        listener_options=SecureListenerOptions,
        acks=acks,
        loopback="wss://127.0.0.1:0",
    )
    yield Transport(
        schemes=("ws+serve",),
        client=_serve,
        options=ServeOptions,
        acks=acks,
        loopback="ws+serve://127.0.0.1:0?peer-buffer=64MiB",
        trial_consumer=_trial_consumer,
    )
    yield Transport(
        schemes=("wss+serve",),
        client=_serve,
        options=SecureServeOptions,
        acks=acks,
        loopback="wss+serve://127.0.0.1:0?peer-buffer=64MiB",
        trial_consumer=_trial_consumer,
    )

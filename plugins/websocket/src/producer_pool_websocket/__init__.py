"""The ws and wss transports of Producer Pool, both ends: a message is a websocket message."""

from __future__ import annotations

from collections.abc import Iterable

from producer_pool.plugin import (
    TCP_ACKS,
    Ack,
    Client,
    Endpoint,
    InvalidEndpoint,
    Listener,
    TcpBinding,
    TcpDialer,
    Transport,
    client_tls,
    hookimpl,
    server_tls,
)
from producer_pool_websocket.answering import House
from producer_pool_websocket.asking import wish_of
from producer_pool_websocket.client import WebSocketClient
from producer_pool_websocket.credentials import read_token
from producer_pool_websocket.http_head import check_words
from producer_pool_websocket.listener import WebSocketListener
from producer_pool_websocket.options import (
    ClientOptions,
    ListenerOptions,
    SecureClientOptions,
    SecureListenerOptions,
)

__version__ = "0.1.0"

__all__ = [
    "ClientOptions",
    "ListenerOptions",
    "SecureClientOptions",
    "SecureListenerOptions",
    "__version__",
    "producer_pool_transports",
]

WS_ACKS = TCP_ACKS | {Ack.PEER}


def _client(endpoint: Endpoint, options: ClientOptions) -> Client:
    dialer = TcpDialer(endpoint, options)
    wish = wish_of(endpoint, options, where=dialer.address)
    tls = None
    if isinstance(options, SecureClientOptions):
        tls = client_tls(options, dialer.name, where=dialer.address)
    return WebSocketClient(dialer, options, wish, protocol_name=endpoint.scheme, tls=tls)


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    if endpoint.username is not None:
        raise InvalidEndpoint(
            f"{endpoint}: a listener has no user; token-file= asks those who connect for a token"
        )
    where = f"{endpoint.without(endpoint.options)}"
    check_words(options.subprotocol, *options.origin, where=where)
    token = None if options.token_file is None else read_token(options.token_file, where=where)
    secure = isinstance(options, SecureListenerOptions)
    binding = TcpBinding(endpoint, allow_remote=options.allow_remote or token is not None or secure)
    tls = server_tls(options, where=binding.address) if isinstance(options, SecureListenerOptions) else None
    return WebSocketListener(binding, options, House.of(endpoint, options, token), tls=tls)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer both schemes. PEER is a pong; KERNEL is there where the kernel tells what was acknowledged."""
    yield Transport(
        schemes=("ws",),
        client=_client,
        listener=_listener,
        options=ClientOptions,
        listener_options=ListenerOptions,
        acks=WS_ACKS,
        loopback="ws://127.0.0.1:0",
    )
    yield Transport(
        schemes=("wss",),
        client=_client,
        listener=_listener,
        options=SecureClientOptions,
        listener_options=SecureListenerOptions,
        acks=WS_ACKS,
        loopback="wss://127.0.0.1:0",
    )

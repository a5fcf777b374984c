"""Both ends of a stream over TLS, for tests."""

from __future__ import annotations

from dataclasses import dataclass

from producer_pool.contract.options import coerce
from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.sockets.tcp import TcpDialer, TcpOptions
from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
from producer_pool.toolkit.streams.listener import StreamListener
from producer_pool.toolkit.streams.tls import (
    ServerTls,
    TlsClientOptions,
    TlsListenerOptions,
    client_tls,
    server_tls,
)
from support.certificates import Identity
from support.streams import FakeIntake

WHERE = "tcp+tls://here:1"


def client(port: int, host: str = "127.0.0.1", **query: object) -> StreamClient:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    dialer = TcpDialer(Endpoint.parse(f"tcp+tls://{host}:{port}"), TcpOptions())
    tls = client_tls(coerce(TlsClientOptions, words, where=WHERE), dialer.name, where=WHERE)
    return StreamClient(dialer, StreamClientOptions(), protocol_name="tcp+tls", tls=tls)


def identity(identity: Identity, **query: object) -> ServerTls:
    words = {name.replace("_", "-"): str(value) for name, value in query.items()}
    words |= {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
    return server_tls(coerce(TlsListenerOptions, words, where=WHERE), where=WHERE)


@dataclass
class Listening:
    listener: StreamListener
    intake: FakeIntake
    endpoint: Endpoint

    @property
    def port(self) -> int:
        return self.endpoint.port

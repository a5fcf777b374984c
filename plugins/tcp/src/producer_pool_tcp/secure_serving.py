"""tcp+tls+serve: a client that consumers connect to, with TLS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from producer_pool.plugin import (
    TCP_ACKS,
    Client,
    Endpoint,
    ServingClient,
    TcpBinding,
    TlsListenerOptions,
    Transport,
    hookimpl,
    server_tls,
)
from producer_pool_tcp.serving import AnyServeOptions, trial_consumer

__all__ = ["SecureServeOptions", "producer_pool_transports"]


@dataclass(frozen=True)
class SecureServeOptions(TlsListenerOptions, AnyServeOptions):
    """The same as for tcp+serve, with TLS: ``tcp+tls+serve://host:port?tls-cert=...&tls-key=...``."""


def _serve(endpoint: Endpoint, options: SecureServeOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=True, options=options)
    tls = server_tls(options, where=binding.address)
    return ServingClient(binding, options, framing=options.framing, protocol_name=endpoint.scheme, tls=tls)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer tcp+tls+serve. Only Linux tells what was acknowledged, as with tcp+serve."""
    yield Transport(
        schemes=("tcp+tls+serve",),
        client=_serve,
        options=SecureServeOptions,
        acks=TCP_ACKS,
        loopback="tcp+tls+serve://127.0.0.1:0?peer-buffer=64MiB",
        trial_consumer=trial_consumer,
    )

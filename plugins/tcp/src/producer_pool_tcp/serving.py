"""tcp+serve: a client that consumers connect to, without TLS."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer_pool.plugin import (
    LINES,
    TCP_ACKS,
    Client,
    Endpoint,
    Framing,
    ServingClient,
    ServingOptions,
    TcpBinding,
    TcpOptions,
    Transport,
    hookimpl,
    option,
)

if TYPE_CHECKING:
    from producer_pool.testing import Trial, TrialConsumer

__all__ = ["AnyServeOptions", "ServeOptions", "producer_pool_transports", "trial_consumer"]


@dataclass(frozen=True)
class AnyServeOptions(TcpOptions, ServingOptions):
    """What the URL of such a client may say, with TLS or without."""

    framing: Framing = option(LINES, "how messages are marked off")


@dataclass(frozen=True)
class ServeOptions(AnyServeOptions):
    """What the URL of a client may say that consumers connect to: ``tcp+serve://host:port?...``."""

    allow_remote: bool = option(
        False, "listen where other machines can connect, though nothing asks who they are"
    )


def _serve(endpoint: Endpoint, options: ServeOptions) -> Client:
    endpoint.no_more_than_host_and_port()
    binding = TcpBinding(endpoint, allow_remote=options.allow_remote, options=options)
    return ServingClient(binding, options, framing=options.framing, protocol_name=endpoint.scheme)


def trial_consumer(trial: Trial) -> TrialConsumer:
    """Make what the conformance suite tries either client with."""
    from producer_pool.testing import DialingConsumer

    return DialingConsumer(trial, tls=trial.subject.scheme == "tcp+tls+serve")


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer tcp+serve. Only Linux tells what was acknowledged: elsewhere WRITTEN is the highest level."""
    yield Transport(
        schemes=("tcp+serve",),
        client=_serve,
        options=ServeOptions,
        acks=TCP_ACKS,
        loopback="tcp+serve://127.0.0.1:0?peer-buffer=64MiB",
        trial_consumer=trial_consumer,
    )

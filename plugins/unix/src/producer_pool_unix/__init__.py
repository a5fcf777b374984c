"""
The unix, unix+dgram and unix+serve transports of Producer Pool: messages between processes of one machine.

The first two have both ends; the third is a client that consumers connect to.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from producer_pool.plugin import (
    LINES,
    UNIX_ACKS,
    Ack,
    AcknowledgedClient,
    Client,
    DatagramClient,
    DatagramClientOptions,
    DatagramListener,
    DatagramListenerOptions,
    Endpoint,
    Framing,
    Listener,
    ServingClient,
    ServingOptions,
    Size,
    StreamClientOptions,
    StreamListener,
    StreamListenerOptions,
    Transport,
    hookimpl,
    option,
)
from producer_pool_unix.datagrams import UnixDatagramBinding, UnixDatagramDialer, longest_datagram
from producer_pool_unix.place import PlaceOptions
from producer_pool_unix.streams import UnixBinding, UnixDialer

if TYPE_CHECKING:
    from producer_pool.testing import Trial, TrialConsumer

__version__ = "0.1.0"

__all__ = [
    "ListenerOptions",
    "ServeOptions",
    "UnixDatagramListenerOptions",
    "__version__",
    "producer_pool_transports",
]


@dataclass(frozen=True)
class ListenerOptions(PlaceOptions, StreamListenerOptions):
    """What the URL of a listener may say: ``unix:///path?...``."""


@dataclass(frozen=True)
class ServeOptions(PlaceOptions, ServingOptions):
    """What the URL of a client may say that consumers connect to: ``unix+serve:///path?...``."""

    framing: Framing = option(LINES, "how messages are marked off")


@dataclass(frozen=True)
class UnixDatagramListenerOptions(PlaceOptions, DatagramListenerOptions):
    """What the URL of a listener may say: ``unix+dgram:///path?...``."""

    # As long as what a client sends with the send buffer that systems give, and some more.
    max_message: Size = option(256 * 1024, "a longer datagram is thrown away, and counted")


def _client(endpoint: Endpoint, options: StreamClientOptions) -> Client:
    return AcknowledgedClient(UnixDialer(endpoint), options, protocol_name=endpoint.scheme)


def _listener(endpoint: Endpoint, options: ListenerOptions) -> Listener:
    return StreamListener(UnixBinding(endpoint, options), options)


def _serve(endpoint: Endpoint, options: ServeOptions) -> Client:
    binding = UnixBinding(endpoint, options, sends=True)
    return ServingClient(binding, options, framing=options.framing, protocol_name=endpoint.scheme)


def _datagram_client(endpoint: Endpoint, options: DatagramClientOptions) -> Client:
    return DatagramClient(UnixDatagramDialer(endpoint), options, protocol_name=endpoint.scheme)


def _datagram_listener(endpoint: Endpoint, options: UnixDatagramListenerOptions) -> Listener:
    return DatagramListener(UnixDatagramBinding(endpoint, options), options)


def _trial_consumer(trial: Trial) -> TrialConsumer:
    from producer_pool.testing import DialingConsumer

    return DialingConsumer(trial)


@hookimpl
def producer_pool_transports() -> Iterable[Transport]:
    """Offer all schemes. Only Linux tells what a process has read: elsewhere WRITTEN is the highest level."""
    yield Transport(
        schemes=("unix",),
        client=_client,
        listener=_listener,
        options=StreamClientOptions,
        listener_options=ListenerOptions,
        acks=UNIX_ACKS | {Ack.APP},
        loopback="unix://{tmp}/consumer.sock",
    )
    yield Transport(
        schemes=("unix+dgram",),
        client=_datagram_client,
        listener=_datagram_listener,
        options=DatagramClientOptions,
        listener_options=UnixDatagramListenerOptions,
        max_message=longest_datagram(),
        loopback="unix+dgram://{tmp}/consumer.sock?strip=no",
    )
    yield Transport(
        schemes=("unix+serve",),
        client=_serve,
        options=ServeOptions,
        acks=UNIX_ACKS,
        loopback="unix+serve://{tmp}/consumers.sock?peer-buffer=64MiB",
        trial_consumer=_trial_consumer,
    )

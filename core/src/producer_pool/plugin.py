"""
All that a plugin author imports.

The ports and values of the contract, and the toolkit's building blocks for protocols over sockets. Every
name is imported when it is first used, so that a protocol pays only for what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from producer_pool.contract.hookspecs import hookimpl
    from producer_pool.contract.options import Duration, Size, option
    from producer_pool.contract.ports import (
        Client,
        ClientSignals,
        Intake,
        Listener,
        Observer,
        PipelinedClient,
        Settled,
        Stage,
    )
    from producer_pool.contract.transport import API, Transport
    from producer_pool.model.batch import Batch
    from producer_pool.model.endpoint import Endpoint
    from producer_pool.model.envelope import EnvelopeFraming
    from producer_pool.model.errors import (
        ConfigurationError,
        ConnectError,
        DeliveryError,
        FramingError,
        InvalidEndpoint,
        InvalidOption,
        ListenError,
        MessageTooLarge,
        Rejected,
        SendError,
    )
    from producer_pool.model.framing import (
        LENGTH4,
        LINES,
        NUL,
        OCTET_COUNTING,
        CountedFraming,
        Decoder,
        Framing,
    )
    from producer_pool.model.loglimit import LogLimit
    from producer_pool.model.outcomes import Ack, Outcome
    from producer_pool.model.stats import Health, ListenerStats, State
    from producer_pool.toolkit.acknowledging.client import AcknowledgedClient
    from producer_pool.toolkit.blocking import BlockingClient
    from producer_pool.toolkit.datagrams.client import DatagramClient, DatagramClientOptions
    from producer_pool.toolkit.datagrams.listener import DatagramListener, DatagramListenerOptions
    from producer_pool.toolkit.datagrams.sockets import DatagramBinding, DatagramDialer
    from producer_pool.toolkit.datagrams.udp import (
        UDP_MAX_MESSAGE,
        UdpBinding,
        UdpDialer,
        UdpListenerOptions,
        UdpOptions,
    )
    from producer_pool.toolkit.serving.client import ServingClient
    from producer_pool.toolkit.serving.options import PeerOverflow, ServingOptions, ServingStats
    from producer_pool.toolkit.serving.peer import Peer
    from producer_pool.toolkit.sockets.binding import Binding, TcpBinding, check_loopback
    from producer_pool.toolkit.sockets.resolver import Address, resolve
    from producer_pool.toolkit.sockets.tcp import Dialer, TcpDialer, TcpOptions, why
    from producer_pool.toolkit.streams.acceptor import Acceptor
    from producer_pool.toolkit.streams.client import StreamClient, StreamClientOptions
    from producer_pool.toolkit.streams.connection import (
        AckAfter,
        Connection,
        FramedConnection,
        StreamListenerOptions,
        Tail,
    )
    from producer_pool.toolkit.streams.handshake import Dialogue
    from producer_pool.toolkit.streams.listener import StreamListener
    from producer_pool.toolkit.streams.progress import TCP_ACKS, UNIX_ACKS, Progress, UnixProgress
    from producer_pool.toolkit.streams.tls import (
        ClientTls,
        ServerTls,
        TlsClientOptions,
        TlsListenerOptions,
        client_tls,
        server_tls,
    )

# By the module they come from. Type checkers, which run nothing, need __all__ and the block above in full.
_MODULES = {
    "contract.hookspecs": ["hookimpl"],
    "contract.options": ["Duration", "Size", "option"],
    "contract.ports": [
        "Client",
        "ClientSignals",
        "Intake",
        "Listener",
        "Observer",
        "PipelinedClient",
        "Settled",
        "Stage",
    ],
    "contract.transport": ["API", "Transport"],
    "model.batch": ["Batch"],
    "model.endpoint": ["Endpoint"],
    "model.envelope": ["EnvelopeFraming"],
    "model.errors": [
        "ConfigurationError",
        "ConnectError",
        "DeliveryError",
        "FramingError",
        "InvalidEndpoint",
        "InvalidOption",
        "ListenError",
        "MessageTooLarge",
        "Rejected",
        "SendError",
    ],
    "model.framing": ["LENGTH4", "LINES", "NUL", "OCTET_COUNTING", "CountedFraming", "Decoder", "Framing"],
    "model.loglimit": ["LogLimit"],
    "model.outcomes": ["Ack", "Outcome"],
    "model.stats": ["Health", "ListenerStats", "State"],
    "toolkit.acknowledging.client": ["AcknowledgedClient"],
    "toolkit.blocking": ["BlockingClient"],
    "toolkit.datagrams.client": ["DatagramClient", "DatagramClientOptions"],
    "toolkit.datagrams.listener": ["DatagramListener", "DatagramListenerOptions"],
    "toolkit.datagrams.sockets": ["DatagramBinding", "DatagramDialer"],
    "toolkit.datagrams.udp": [
        "UDP_MAX_MESSAGE",
        "UdpBinding",
        "UdpDialer",
        "UdpListenerOptions",
        "UdpOptions",
    ],
    "toolkit.serving.client": ["ServingClient"],
    "toolkit.serving.options": ["PeerOverflow", "ServingOptions", "ServingStats"],
    "toolkit.serving.peer": ["Peer"],
    "toolkit.sockets.binding": ["Binding", "TcpBinding", "check_loopback"],
    "toolkit.sockets.resolver": ["Address", "resolve"],
    "toolkit.sockets.tcp": ["Dialer", "TcpDialer", "TcpOptions", "why"],
    "toolkit.streams.acceptor": ["Acceptor"],
    "toolkit.streams.client": ["StreamClient", "StreamClientOptions"],
    "toolkit.streams.connection": [
        "AckAfter",
        "Connection",
        "FramedConnection",
        "StreamListenerOptions",
        "Tail",
    ],
    "toolkit.streams.handshake": ["Dialogue"],
    "toolkit.streams.listener": ["StreamListener"],
    "toolkit.streams.progress": ["TCP_ACKS", "UNIX_ACKS", "Progress", "UnixProgress"],
    "toolkit.streams.tls": [
        "ClientTls",
        "ServerTls",
        "TlsClientOptions",
        "TlsListenerOptions",
        "client_tls",
        "server_tls",
    ],
}
_HOMES = {name: f"producer_pool.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "API",
    "LENGTH4",
    "LINES",
    "NUL",
    "OCTET_COUNTING",
    "TCP_ACKS",
    "UDP_MAX_MESSAGE",
    "UNIX_ACKS",
    "Acceptor",
    "Ack",
    "AckAfter",
    "AcknowledgedClient",
    "Address",
    "Batch",
    "Binding",
    "BlockingClient",
    "Client",
    "ClientSignals",
    "ClientTls",
    "ConfigurationError",
    "ConnectError",
    "Connection",
    "CountedFraming",
    "DatagramBinding",
    "DatagramClient",
    "DatagramClientOptions",
    "DatagramDialer",
    "DatagramListener",
    "DatagramListenerOptions",
    "Decoder",
    "DeliveryError",
    "Dialer",
    "Dialogue",
    "Duration",
    "Endpoint",
    "EnvelopeFraming",
    "FramedConnection",
    "Framing",
    "FramingError",
    "Health",
    "Intake",
    "InvalidEndpoint",
    "InvalidOption",
    "ListenError",
    "Listener",
    "ListenerStats",
    "LogLimit",
    "MessageTooLarge",
    "Observer",
    "Outcome",
    "Peer",
    "PeerOverflow",
    "PipelinedClient",
    "Progress",
    "Rejected",
    "SendError",
    "ServerTls",
    "ServingClient",
    "ServingOptions",
    "ServingStats",
    "Settled",
    "Size",
    "Stage",
    "State",
    "StreamClient",
    "StreamClientOptions",
    "StreamListener",
    "StreamListenerOptions",
    "Tail",
    "TcpBinding",
    "TcpDialer",
    "TcpOptions",
    "TlsClientOptions",
    "TlsListenerOptions",
    "Transport",
    "UdpBinding",
    "UdpDialer",
    "UdpListenerOptions",
    "UdpOptions",
    "UnixProgress",
    "check_loopback",
    "client_tls",
    "hookimpl",
    "option",
    "resolve",
    "server_tls",
    "why",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'producer_pool.plugin' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

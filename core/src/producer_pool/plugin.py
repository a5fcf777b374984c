"""
All that a plugin author imports.

The ports and values of the contract, and the toolkit's building blocks for protocols over sockets.
"""

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
from producer_pool.model.framing import LENGTH4, LINES, NUL, OCTET_COUNTING, Decoder, Framing
from producer_pool.model.outcomes import Ack, Outcome
from producer_pool.model.stats import Health, ListenerStats, State

__all__ = [
    "API",
    "LENGTH4",
    "LINES",
    "NUL",
    "OCTET_COUNTING",
    "Ack",
    "Batch",
    "Client",
    "ClientSignals",
    "ConfigurationError",
    "ConnectError",
    "Decoder",
    "DeliveryError",
    "Duration",
    "Endpoint",
    "Framing",
    "FramingError",
    "Health",
    "Intake",
    "InvalidEndpoint",
    "InvalidOption",
    "ListenError",
    "Listener",
    "ListenerStats",
    "MessageTooLarge",
    "Observer",
    "Outcome",
    "PipelinedClient",
    "Rejected",
    "SendError",
    "Settled",
    "Size",
    "Stage",
    "State",
    "Transport",
    "hookimpl",
    "option",
]

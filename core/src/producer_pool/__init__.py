"""
Producer Pool: messages in, many consumers out, and the outcome of each known.

    from producer_pool import ProducerPool

    with ProducerPool() as pool:
        pool.add_producer("audit", "tcp://127.0.0.1:9000")
        results = pool.forward_to_all("hello")

Every name is imported when it is first used, so that a program pays only for what it needs.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from producer_pool.aio import AsyncProducerPool
    from producer_pool.contract.ports import Client
    from producer_pool.delivery.producer import Producer
    from producer_pool.delivery.receipts import AsyncReceipt, Receipt
    from producer_pool.discovery.factory import ClientFactory
    from producer_pool.model.batch import Batch
    from producer_pool.model.endpoint import Endpoint
    from producer_pool.model.errors import (
        Cancelled,
        ConfigurationError,
        ConnectError,
        DeadlineExceeded,
        DeliveryError,
        DuplicateProducer,
        Filtered,
        ForkedPool,
        FramingError,
        Full,
        InvalidEndpoint,
        InvalidOption,
        ListenError,
        Lost,
        MessageTooLarge,
        PluginError,
        PluginLoadError,
        PoolClosed,
        ProducerPoolError,
        Rejected,
        SchemeConflict,
        SendError,
        StorageError,
        UnknownProducer,
        UnknownScheme,
        UsageError,
        WrongThread,
    )
    from producer_pool.model.outcomes import Ack, ForwardResult, Outcome, Results
    from producer_pool.model.policies import DeliveryPolicy, Limits, Overflow, Retry, Role, Spool
    from producer_pool.model.stats import Health, ListenerStats, PoolStats, ProducerStats, State
    from producer_pool.pool import ProducerPool
    from producer_pool.server import AsyncServer, Server, bind_transport, bind_transport_async
    from producer_pool.shortcuts import (
        add_producer,
        add_tcp_producer,
        forward_to_all_producers,
        forward_to_producer,
        get_producer_pool,
        open_client,
    )
    from producer_pool.storage.dead_letters_reading import DeadLetter, DeadLetterFolder, open_dead_letters
    from producer_pool.toolkit.blocking import BlockingClient

# By the module they come from. Type checkers, which run nothing, need __all__ and the block above in full.
_MODULES = {
    "aio": ["AsyncProducerPool"],
    "contract.ports": ["Client"],
    "delivery.producer": ["Producer"],
    "delivery.receipts": ["AsyncReceipt", "Receipt"],
    "discovery.factory": ["ClientFactory"],
    "model.batch": ["Batch"],
    "model.endpoint": ["Endpoint"],
    "model.errors": [
        "Cancelled",
        "ConfigurationError",
        "ConnectError",
        "DeadlineExceeded",
        "DeliveryError",
        "DuplicateProducer",
        "Filtered",
        "ForkedPool",
        "FramingError",
        "Full",
        "InvalidEndpoint",
        "InvalidOption",
        "ListenError",
        "Lost",
        "MessageTooLarge",
        "PluginError",
        "PluginLoadError",
        "PoolClosed",
        "ProducerPoolError",
        "Rejected",
        "SchemeConflict",
        "SendError",
        "StorageError",
        "UnknownProducer",
        "UnknownScheme",
        "UsageError",
        "WrongThread",
    ],
    "model.outcomes": ["Ack", "ForwardResult", "Outcome", "Results"],
    "model.policies": ["DeliveryPolicy", "Limits", "Overflow", "Retry", "Role", "Spool"],
    "model.stats": ["Health", "ListenerStats", "PoolStats", "ProducerStats", "State"],
    "pool": ["ProducerPool"],
    "server": ["AsyncServer", "Server", "bind_transport", "bind_transport_async"],
    "shortcuts": [
        "add_producer",
        "add_tcp_producer",
        "forward_to_all_producers",
        "forward_to_producer",
        "get_producer_pool",
        "open_client",
    ],
    "storage.dead_letters_reading": ["DeadLetter", "DeadLetterFolder", "open_dead_letters"],
    "toolkit.blocking": ["BlockingClient"],
}
_HOMES = {name: f"producer_pool.{module}" for module, names in _MODULES.items() for name in names}

__all__ = [
    "__version__",
    # aio
    "AsyncProducerPool",
    # contract.ports
    "Client",
    # delivery.producer
    "Producer",
    # delivery.receipts
    "AsyncReceipt",
    "Receipt",
    # discovery.factory
    "ClientFactory",
    # model.batch
    "Batch",
    # model.endpoint
    "Endpoint",
    # model.errors
    "Cancelled",
    "ConfigurationError",
    "ConnectError",
    "DeadlineExceeded",
    "DeliveryError",
    "DuplicateProducer",
    "Filtered",
    "ForkedPool",
    "FramingError",
    "Full",
    "InvalidEndpoint",
    "InvalidOption",
    "ListenError",
    "Lost",
    "MessageTooLarge",
    "PluginError",
    "PluginLoadError",
    "PoolClosed",
    "ProducerPoolError",
    "Rejected",
    "SchemeConflict",
    "SendError",
    "StorageError",
    "UnknownProducer",
    "UnknownScheme",
    "UsageError",
    "WrongThread",
    # model.outcomes
    "Ack",
    "ForwardResult",
    "Outcome",
    "Results",
    # model.policies
    "DeliveryPolicy",
    "Limits",
    "Overflow",
    "Retry",
    "Role",
    "Spool",
    # model.stats
    "Health",
    "ListenerStats",
    "PoolStats",
    "ProducerStats",
    "State",
    # pool
    "ProducerPool",
    # server
    "AsyncServer",
    "Server",
    "bind_transport",
    "bind_transport_async",
    # shortcuts
    "add_producer",
    "add_tcp_producer",
    "forward_to_all_producers",
    "forward_to_producer",
    "get_producer_pool",
    "open_client",
    # storage.dead_letters_reading
    "DeadLetter",
    "DeadLetterFolder",
    "open_dead_letters",
    # toolkit.blocking
    "BlockingClient",
]


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for."""
    try:
        home = _HOMES[name]
    except KeyError:
        raise AttributeError(f"module 'producer_pool' has no attribute {name!r}") from None
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""
Every exception that Producer Pool raises, in one tree.

    ProducerPoolError
    ├── ConfigurationError          what a person wrote is wrong: a URL, an option, a variable, a file
    │   ├── InvalidEndpoint
    │   └── InvalidOption
    ├── PluginError                 the plugin for a scheme cannot be had
    │   ├── UnknownScheme
    │   ├── SchemeConflict
    │   └── PluginLoadError
    ├── UsageError                  the program called something that cannot work
    │   ├── DuplicateProducer
    │   ├── UnknownProducer
    │   ├── PoolClosed
    │   │   └── ForkedPool
    │   └── WrongThread
    ├── ListenError                 an endpoint cannot be listened at
    ├── StorageError                a folder for durable messages cannot be used
    ├── FramingError                bytes on a wire break the rules of their framing
    │   └── MessageTooLarge
    └── DeliveryError               why one message did not reach one consumer
        ├── ConnectError                it cannot have arrived
        ├── SendError                   it may have arrived
        ├── Rejected                    the consumer will never take it
        ├── DeadlineExceeded            its time ran out
        ├── Full                        the bound of a buffer was reached
        ├── Lost                        it was stored, and is gone from there
        ├── Filtered                    a stage removed it
        └── Cancelled                   the producer was removed or the pool closed first
"""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
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
]


class ProducerPoolError(Exception):
    """Root of the tree: ``except ProducerPoolError`` catches all that this package raises itself."""


# -- what a person wrote ---------------------------------------------------------------------------


class ConfigurationError(ProducerPoolError, ValueError):
    """A URL, option, variable or file says something that cannot be used."""


class InvalidEndpoint(ConfigurationError):
    """A URL cannot be read as an endpoint. The text never holds its password."""


class InvalidOption(ConfigurationError):
    """An option in a URL's query is unknown, repeated, or has a value that cannot be read."""


# -- plugins ---------------------------------------------------------------------------------------


class PluginError(ProducerPoolError):
    """The plugin that a URL asks for cannot be had."""


class UnknownScheme(PluginError):
    """No installed distribution handles the scheme."""

    def __init__(self, message: str, *, scheme: str) -> None:
        super().__init__(message)
        self.scheme = scheme


class SchemeConflict(PluginError):
    """Two installed distributions claim one scheme, and nothing says which to use."""

    def __init__(self, message: str, *, scheme: str, distributions: Iterable[str]) -> None:
        super().__init__(message)
        self.scheme = scheme
        self.distributions = tuple(distributions)


class PluginLoadError(PluginError):
    """The distribution for the scheme is installed but cannot be used."""

    def __init__(self, message: str, *, distribution: str) -> None:
        super().__init__(message)
        self.distribution = distribution


# -- the program's own calls -----------------------------------------------------------------------


class UsageError(ProducerPoolError):
    """The program called something that cannot work."""


class DuplicateProducer(UsageError, ValueError):
    """A producer of this id is in the pool already."""

    def __init__(self, producer_id: str, known: Iterable[str]) -> None:
        self.producer_id = producer_id
        super().__init__(
            f"producer {producer_id!r} is in the pool already; known: {_listed(known)}; "
            "remove_producer() it first or choose another id"
        )


class UnknownProducer(UsageError, LookupError):
    """No producer of this id is in the pool. If a message was for it, that was sent to nobody."""

    def __init__(self, producer_ids: Iterable[str], known: Iterable[str], *, sending: bool = False) -> None:
        self.producer_ids = tuple(producer_ids)
        names = _listed(map(repr, self.producer_ids))
        unsent = "; nothing was sent" if sending else ""
        super().__init__(f"no producer {names} in the pool; known: {_listed(known)}{unsent}")


class PoolClosed(UsageError):
    """The pool takes nothing any more."""


class ForkedPool(PoolClosed):
    """The pool belongs to the parent process; a forked child has to make its own."""

    def __init__(self) -> None:
        super().__init__(
            "this pool was made before a fork and lives in the parent; make a new pool in the child"
        )


class WrongThread(UsageError, RuntimeError):
    """A waiting call was made on the thread that would have to do the work."""


# -- endpoints and wires ---------------------------------------------------------------------------


class ListenError(ProducerPoolError, OSError):
    """An endpoint cannot be listened at."""


class StorageError(ProducerPoolError, OSError):
    """A spool, or a folder of dead letters, cannot be used: its path, its rights, or another process."""

    passing: bool
    """Whether it may end by itself, such as that another process uses it; else somebody has to act."""

    def __init__(self, text: str, *, passing: bool = False) -> None:
        self.passing = passing
        super().__init__(text)


class FramingError(ProducerPoolError):
    """Bytes on a wire break the rules of their framing; that connection cannot be read further."""


class MessageTooLarge(FramingError):
    """
    A message on a wire is longer than the listener takes.

    *framing* is that of the listener, where a length stands before each message: what came may be of another
    framing, and no length.
    """

    def __init__(self, limit: int, framing: str = "") -> None:
        self.limit = limit
        other = f", or have the other side use framing={framing}, too" if framing else ""
        super().__init__(f"message longer than {limit} bytes; raise it with ?max-message={other}")


# -- delivery --------------------------------------------------------------------------------------


class DeliveryError(ProducerPoolError):
    """Why one message did not reach one consumer."""

    index: int | None = None
    """Set by ``Client.send_batch``: the message it happened at; all before it are delivered."""


class ConnectError(DeliveryError):
    """The consumer could not be reached. The message cannot have arrived; a retry cannot double it."""


class SendError(DeliveryError):
    """Sending broke off. The message may have arrived; a retry may double it."""


class Rejected(DeliveryError):
    """The consumer, or its protocol, will never take this message. It settles this message only."""


class DeadlineExceeded(DeliveryError):
    """The message was not delivered within its deadline and is not tried again."""


class Full(DeliveryError):
    """A buffer's bound was reached, and the message was not accepted."""


class Lost(DeliveryError):
    """The message lay in a spool, and is gone from there: damaged, or deleted by somebody."""


class Filtered(DeliveryError):
    """A stage of this producer removed the message."""


class Cancelled(DeliveryError):
    """The producer was removed or the pool was closed before the message was delivered."""


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"

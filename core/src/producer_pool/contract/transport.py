"""What a plugin offers for its schemes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

from producer_pool.contract.ports import Client, Listener
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.outcomes import Ack

__all__ = ["API", "Transport"]

API: Final = 1
"""The version of the plugin contract that this core speaks."""


@dataclass(frozen=True, eq=False, repr=False)
class Transport(Fieldwise):
    """
    The ends of one protocol and what it guarantees.

    *client* and *listener* are called with the endpoint and an instance of the options dataclass, made
    from the URL's query; with None where there is no options class. Classes will do.
    """

    schemes: Collection[str]
    """The URL schemes that it serves. Each is an entry point of the plugin's distribution."""
    client: Callable[[Endpoint, Any], Client] | None
    """Makes a client for an endpoint; None: this protocol only receives."""
    listener: Callable[[Endpoint, Any], Listener] | None = None
    """Makes a listener for an endpoint; None: this protocol only sends."""
    options: type | None = None
    """A frozen dataclass of the options that its URLs may carry."""
    listener_options: type | None = None
    """The same for listeners, where they differ."""
    acks: Collection[Ack] = frozenset({Ack.WRITTEN})
    """The levels of acknowledgement that it can reach on this platform."""
    ordered: bool = True
    """Whether messages arrive in the order in which they were sent."""
    binary_safe: bool = True
    """Whether every byte string is a message that it can carry, with the right options."""
    max_message: int | None = None
    """Bytes of the longest message that it can carry; None: no limit of its own."""
    loopback: str = ""
    """
    A URL at which both ends can meet on this machine, such as ``tcp://127.0.0.1:0``: for tests and
    ``plugins check``. ``{tmp}`` in it stands for a new folder, and port 0 for any free one. Options in
    it are those of the listener, or of the client where there is no listener.
    """
    api: int = API
    """The version of the contract that the plugin was written for."""
    trial_consumer: Callable[[Any], Any] | None = None
    """
    Called with a ``producer_pool.testing.Trial``, returns what shows the conformance suite which messages
    arrive: a ``TrialConsumer``. For a protocol without a listener, above all for a client that consumers
    connect to: ``plugins check`` tries it with one that connects. None: its listener shows them.
    """

    def __post_init__(self) -> None:
        if isinstance(self.schemes, str):
            raise TypeError(f"schemes is a tuple of names; write schemes=({self.schemes!r},)")
        object.__setattr__(self, "schemes", tuple(self.schemes))
        object.__setattr__(self, "acks", _levels(self.acks))


def _levels(acks: object) -> frozenset[Ack]:
    levels = tuple(acks) if isinstance(acks, Iterable) else None
    if levels is None or not all(isinstance(level, Ack) for level in levels):
        raise TypeError(f"acks are levels such as (Ack.WRITTEN, Ack.KERNEL), not {acks!r}")
    return frozenset(levels)

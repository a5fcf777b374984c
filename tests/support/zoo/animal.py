"""What an animal is: a transport with one fault, and the rule of the suite that has to find it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from producer_pool.discovery.registry import Registry
from producer_pool.plugin import (
    TCP_ACKS,
    Ack,
    Client,
    Listener,
    StreamClient,
    StreamListenerOptions,
    Transport,
    hookimpl,
)
from producer_pool.testing.subject import Subject
from support.zoo.handmade import AnsweredClient, AnsweringListener, HandmadeOptions
from support.zoo.healthy import AcknowledgedClient, PipelinedClient, PlainClient, ZooListener, ZooOptions

__all__ = ["HEALTHY", "Animal", "Plugin", "animal", "cleaning", "kebab", "transport"]

Kind = TypeVar("Kind", bound=type[Client] | type[Listener])

URL: Final = "zoo://127.0.0.1:0"

cleaning: Final[list[Callable[[], object]]] = []
"""What an animal left behind is cleaned by: the test calls these, and empties the list."""


class Plugin:
    """A plugin of one transport, as an object."""

    def __init__(self, transport: Transport) -> None:
        self.transport = transport

    @hookimpl
    def producer_pool_transports(self) -> Iterable[Transport]:
        """Offer it."""
        return [self.transport]


@dataclass(frozen=True)
class Animal:
    """One of the zoo."""

    name: str
    wrong: str
    """What is wrong with it, in a sentence."""
    breaks: str
    """The name of the rule that has to reject it."""
    says: str
    """What the verdict has to say, as a regular expression: so that it names the fault, and not another."""
    plugin: object

    def subject(self) -> Subject:
        """Return it as the suite takes it."""
        registry = Registry()
        registry.register(self.plugin, self.name)
        return Subject(URL, registry)


def transport(client: type[Client] = PipelinedClient, **declared: Any) -> Transport:
    """Return the healthy transport with that client, and whatever else *declared* says."""
    acks = TCP_ACKS if issubclass(client, StreamClient) else frozenset({Ack.WRITTEN})
    if issubclass(client, AcknowledgedClient):
        acks |= {Ack.APP}
    healthy = {
        "schemes": ("zoo",),
        "client": client,
        "listener": ZooListener,
        "options": ZooOptions,
        "listener_options": StreamListenerOptions,
        "acks": acks,
        "loopback": URL,
    }
    return Transport(**{**healthy, **declared})


def animal(breaks: str, says: str, **declared: Any) -> Callable[[Kind], Kind]:
    """
    Make an animal out of a client or a listener with a fault; its docstring says what is wrong.

    The class stays what it is, and gets the animal as `animal`: the zoo finds it there.
    """

    def made(kind: Kind) -> Kind:
        ends = {"client": kind} if issubclass(kind, Client) else {"listener": kind}
        wrong = " ".join((kind.__doc__ or "").partition("\n\n")[0].split())
        plugin = Plugin(transport(**{**ends, **declared}))
        kind.animal = Animal(kebab(kind.__name__), wrong, breaks, says, plugin)  # type: ignore[union-attr]
        return kind

    return made


def kebab(name: str) -> str:
    """Return ``SecondCloseRaises`` as ``second-close-raises``."""
    return "".join(f"-{letter.lower()}" if letter.isupper() else letter for letter in name).lstrip("-")


HEALTHY: Final = (
    Animal("plain", "nothing", "", "", Plugin(transport(PlainClient))),
    Animal("pipelined", "nothing", "", "", Plugin(transport())),
    Animal(
        "answered",
        "nothing",
        "",
        "",
        Plugin(
            transport(
                AnsweredClient,
                listener=AnsweringListener,
                listener_options=HandmadeOptions,
                acks={Ack.APP},
            )
        ),
    ),
    Animal("acknowledged", "nothing", "", "", Plugin(transport(AcknowledgedClient))),
)
"""Those that keep every rule."""

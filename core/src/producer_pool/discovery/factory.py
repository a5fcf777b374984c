"""From a URL to a client, to a producer's plan, or to a listener."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, Final, Generic, NamedTuple, ParamSpec, Self, TypeVar

from producer_pool.contract.options import DELIVERY_NAMES, coerce, names, secret_names
from producer_pool.contract.ports import Client, Listener
from producer_pool.contract.transport import Transport
from producer_pool.contract.wiring import Wiring
from producer_pool.discovery.faults import spell
from producer_pool.discovery.installed import Provided
from producer_pool.discovery.registry import Registry, default_registry
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, InvalidEndpoint, InvalidOption
from producer_pool.model.outcomes import resolve_ack
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.text import format_duration, parse_duration, suggestion

if TYPE_CHECKING:
    from producer_pool.discovery.config import Settings

__all__ = ["ClientFactory", "ProducerPlan"]

P = ParamSpec("P")
R = TypeVar("R")

_PRODUCERS: Final = (
    "delivery options belong to a producer: the URL given to add_producer(), --to or PRODUCER_<ID>"
)
_CLIENTS: Final = (
    "it goes into the URL of a client: the one given to add_producer(), send, --to or PRODUCER_<ID>"
)
_LISTENERS: Final = (
    "it goes into the URL of a listener: the one given to bind_transport(), sink, --listen or "
    "PRODUCER_POOL_LISTEN"
)
"""Where an option belongs that stands in another URL."""


class ProducerPlan(NamedTuple):
    """All that a producer made from a URL consists of."""

    endpoint: Endpoint
    """Where it sends to, without the options that concern the producer alone."""
    client: Client
    policy: DeliveryPolicy
    """Its ``ack`` is resolved: a level that the client reaches."""
    transport: Transport
    provided: Provided
    """The entry point, and so the distribution, that the transport comes from."""


class _OnClassToo(Generic[P, R]):
    """A method that can be called on the class as well: then on an instance with the defaults."""

    def __init__(self, function: Callable[Concatenate[ClientFactory, P], R]) -> None:
        self._function = function
        functools.update_wrapper(self, function)  # type: ignore[arg-type]

    def __get__(self, instance: ClientFactory | None, owner: type[ClientFactory]) -> Callable[P, R]:
        return functools.partial(self._function, owner() if instance is None else instance)


class ClientFactory:
    """
    Makes clients, plans and listeners from URLs, with the plugins of a registry.

    ::

        client = ClientFactory.create("tcp://127.0.0.1:9000", timeout=5)
        async with client:
            await client.send(b"hello")
    """

    def __init__(self, registry: Registry | None = None, policy: DeliveryPolicy | None = None) -> None:
        """
        Make a factory.

        *registry* is by default that of the process; *policy*, by default ``DeliveryPolicy.direct()``,
        is what plan() starts from.
        """
        self._registry = registry
        self.policy = policy or DeliveryPolicy.direct()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """
        Make a factory with the plugins, of files too, that *settings* allow and name.

        Raises:
            PluginError: a plugin of a file cannot be used.
        """
        registry = Registry(settings.plugins)
        for path in settings.plugin_files:
            registry.register_file(path)
        return cls(registry, settings.delivery)

    @property
    def registry(self) -> Registry:
        """Where the plugins come from."""
        if self._registry is None:
            self._registry = default_registry()
        return self._registry

    def wiring(self) -> Wiring:
        """Return what the plugins of the registry add to a pool."""
        return self.registry.wiring()

    @_OnClassToo
    def create(self, url: str, *, timeout: float | None = None) -> Client:
        """
        Make the client for *url*. It is not connected, and whoever asked for it closes it.

        *timeout*, in seconds, is the same as ``?timeout=`` in the URL, where it may stand instead.

        Raises:
            ConfigurationError: the URL, or an option in it, cannot be used. Delivery options such as
                ``buffer=`` belong to a producer, and a client has none of them.
            PluginError: the plugin for its scheme cannot be had.
        """
        endpoint = Endpoint.parse(url)
        _refuse(endpoint, DELIVERY_NAMES, "a client alone", _PRODUCERS)
        return self._client(endpoint, timeout, ())[0]

    def plan(
        self, url: str, policy: DeliveryPolicy | None = None, *, timeout: float | None = None
    ) -> ProducerPlan:
        """
        Make the client for *url*, and the policy that its delivery options ask for.

        They change *policy*, by default that of the factory. *timeout* as in create().

        Raises:
            ConfigurationError: the URL, or an option in it, cannot be used; or ``ack=`` asks for more
                than the client reaches.
            PluginError: the plugin for its scheme cannot be had.
        """
        endpoint = Endpoint.parse(url)
        where = _bare(endpoint)
        policy = policy or self.policy
        if asked := {name: value for name, value in endpoint.options.items() if name in DELIVERY_NAMES}:
            from producer_pool.contract.delivery_options import delivery_policy

            policy = delivery_policy(asked, policy, where=where)
        client, endpoint = self._client(endpoint, timeout, DELIVERY_NAMES)
        try:
            policy = dataclasses.replace(policy, ack=resolve_ack(policy.ack, client.acks))
        except ConfigurationError as error:
            raise InvalidOption(f"{where}: {error}") from None
        loaded = self.registry.load(endpoint.scheme)
        return ProducerPlan(endpoint, client, policy, loaded.transport, loaded.provided)

    def listener(self, url: str) -> Listener:
        """
        Make the listener for *url*. It is not started.

        Raises:
            ConfigurationError: the URL, or an option in it, cannot be used.
            PluginError: the plugin for its scheme cannot be had.
        """
        endpoint = Endpoint.parse(url)
        loaded = self.registry.load(endpoint.scheme)
        if loaded.transport.listener is None:
            raise InvalidEndpoint(f"{_bare(endpoint)}: {endpoint.scheme} only sends; it cannot listen")
        _refuse(endpoint, DELIVERY_NAMES, "a listener", _PRODUCERS)
        transport = loaded.transport
        kind = transport.listener_options or transport.options
        theirs = {*_names(transport.options), "timeout"} if transport.client is not None else set()
        _refuse(endpoint, theirs.difference(_names(kind)), "a listener", _CLIENTS)
        endpoint, options = _options(endpoint, kind, ())
        return self.registry.make_listener(endpoint, options)

    def _client(
        self, endpoint: Endpoint, timeout: float | None, others: Iterable[str]
    ) -> tuple[Client, Endpoint]:
        """Return the client for *endpoint*, and the endpoint without what *others* read from its query."""
        transport = self.registry.transport(endpoint.scheme)
        if transport.client is None:
            raise InvalidEndpoint(f"{_bare(endpoint)}: {endpoint.scheme} only listens; it cannot send")
        seconds = _timeout(endpoint, timeout)
        shared = ["timeout", *others]
        theirs = {*_names(transport.listener_options)} if transport.listener is not None else set()
        _refuse(endpoint, theirs.difference(_names(transport.options), shared), "a client", _LISTENERS)
        endpoint, options = _options(endpoint, transport.options, shared)
        if seconds is not None and "timeout" in _names(transport.options):
            options = dataclasses.replace(options, timeout=seconds)
        client = self.registry.make_client(endpoint, options)
        if seconds is not None:
            client.timeout = seconds
        return client, endpoint


def _options(endpoint: Endpoint, kind: type | None, shared: Iterable[str]) -> tuple[Endpoint, Any]:
    """
    Return *endpoint* with the options that *kind* knows, and an instance of it made from them.

    *shared* are options that stand in the same query, and have been read already.
    """
    where = _bare(endpoint)
    known = _names(kind)
    for name in endpoint.options:
        if name not in known and name not in shared:
            words = [*known, *shared]
            listed = ", ".join(sorted(words)) or "none"
            raise InvalidOption(f"{where} has no option {name}; known: {listed}{suggestion(name, words)}")
    endpoint = endpoint.without(shared)
    if kind is None:
        return endpoint, None
    endpoint = endpoint.hiding(secret_names(kind))
    try:
        return endpoint, coerce(kind, endpoint.options, where=where)
    except InvalidOption as error:
        fault = str(error)
    except Exception as error:
        fault = f"{where}: {spell(error)}"
    # Outside of the handler: a context would be printed in a traceback, with the secrets in its text.
    raise InvalidOption(endpoint.scrub(fault))


def _names(kind: type | None) -> list[str]:
    return [] if kind is None else names(kind)


def _timeout(endpoint: Endpoint, argument: object) -> float | None:
    """Return the seconds that the URL or the call asks for; both may only say the same."""
    where = _bare(endpoint)
    if not (argument is None or (isinstance(argument, int | float) and argument == argument)):
        raise InvalidOption(f"{where}: timeout= is a number of seconds, not {argument!r}; units go with URLs")
    text = endpoint.options.get("timeout")
    try:
        seconds = argument if text is None else parse_duration(text)
    except ConfigurationError as error:
        raise InvalidOption(f"{where}: option timeout: {error}") from None
    if argument is not None and seconds != argument:
        raise InvalidOption(
            f"{where}: the URL says timeout={text}, and the call timeout={format_duration(argument)}; "
            "leave one out"
        )
    if seconds is not None and seconds <= 0:
        raise InvalidOption(f"{where}: timeout must be above 0 seconds")
    return seconds


def _refuse(endpoint: Endpoint, names: Iterable[str], what: str, belong: str) -> None:
    """Raise InvalidOption if *endpoint* has one of *names*, which are no options of *what* it is for."""
    if misplaced := sorted(endpoint.options.keys() & names):
        listed = ", ".join(f"{name}=" for name in misplaced)
        raise InvalidOption(f"{_bare(endpoint)}: {what} has no {listed}; {belong}")


def _bare(endpoint: Endpoint) -> str:
    """Return *endpoint* as errors name it: without its options, some of which may be secret."""
    return str(endpoint.without(endpoint.options)).rstrip(":")

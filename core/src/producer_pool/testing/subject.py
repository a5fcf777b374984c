"""What the conformance suite tries: one transport, where its ends meet, and what shows what arrives."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from producer_pool.contract.transport import Transport
from producer_pool.discovery.factory import ClientFactory
from producer_pool.discovery.installed import Provided
from producer_pool.discovery.registry import Loaded, Registry
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, UsageError

if TYPE_CHECKING:
    from producer_pool.testing.consumers import TrialConsumer
    from producer_pool.testing.trial import Trial

__all__ = ["Subject", "filled", "with_options"]

_DISCARD: Final = 9
"""A port at which somebody could be: RFC 863."""


@dataclass(frozen=True)
class Subject:
    """
    One transport on trial.

    *url* is where both ends meet: ``tcp://127.0.0.1:0``. Options in it are those of the listener, or of
    the client where there is no listener. In it, and in the options, ``{tmp}`` stands for a folder that
    is new for each rule.
    """

    url: str
    registry: Registry = field(default_factory=Registry)
    client_options: Mapping[str, str] = field(default_factory=dict)
    """Options that each consumer's URL gets."""
    listener_options: Mapping[str, str] = field(default_factory=dict)
    """Options that each listener's URL gets."""
    consumer: Callable[[Trial], TrialConsumer] | None = None
    """Makes what shows the arrivals; None: what the transport says, or its own listener, does."""

    def __post_init__(self) -> None:
        bare, question, query = self.url.partition("?")
        if question:
            kind = "client_options" if self.transport.listener is None else "listener_options"
            options = Endpoint.parse(f"{self.scheme}:?{query}").options
            object.__setattr__(self, kind, {**options, **getattr(self, kind)})
            object.__setattr__(self, "url", bare)

    @classmethod
    def of_scheme(
        cls,
        scheme: str,
        registry: Registry,
        *,
        client_options: Mapping[str, str] = MappingProxyType({}),
        listener_options: Mapping[str, str] = MappingProxyType({}),
    ) -> Subject:
        """
        Return the transport of *scheme* where it says that its ends meet.

        Raises:
            UsageError: it does not say at which URL its ends meet.
            PluginError: there is no such transport, or it cannot be used.
        """
        loopback = registry.transport(scheme).loopback
        if not loopback:
            raise UsageError(
                f"{scheme} does not say where its ends can meet on this machine; name a URL, such as "
                f"{scheme}://127.0.0.1:0, or set loopback= in its Transport"
            )
        return cls(loopback, registry, client_options=client_options, listener_options=listener_options)

    @property
    def scheme(self) -> str:
        """The scheme of its URL."""
        return self.url.partition(":")[0].lower()

    @property
    def loaded(self) -> Loaded:
        """The transport with where it comes from."""
        return self.registry.load(self.scheme)

    @property
    def transport(self) -> Transport:
        """What the plugin declares."""
        return self.loaded.transport

    @property
    def provided(self) -> Provided:
        """The entry point that it comes from."""
        return self.loaded.provided

    @property
    def factory(self) -> ClientFactory:
        """What makes its clients and listeners."""
        return ClientFactory(self.registry)

    @property
    def sees_arrivals(self) -> bool:
        """Whether there is something that shows what arrives."""
        return self.consumer_maker is not None or self.transport.listener is not None

    @property
    def consumer_maker(self) -> Callable[[Trial], TrialConsumer] | None:
        """What makes a consumer that shows what arrives; None: the transport's own listener does."""
        return self.consumer or self.transport.trial_consumer

    @property
    def shown(self) -> str:
        """Its URL for people, without secrets, and with ``{tmp}`` as it is."""
        return str(Endpoint.parse(self.url.replace("{tmp}", "/tmp"))).replace("/tmp", "{tmp}")

    def place(self, folder: Path) -> str:
        """Return its URL with *folder* in the place of ``{tmp}``."""
        return self.url.replace("{tmp}", str(folder))

    def consumer_place(self, place: str) -> str:
        """
        Return *place* as it could be that of a consumer which nobody started.

        At port 0, which for a listener is any free one, there is nobody: a client may refuse it.
        """
        try:
            endpoint = Endpoint.parse(place)
            taken = self.transport.listener is None or endpoint.port != 0
            return place if taken else endpoint.at(endpoint.host, _DISCARD).raw
        except ConfigurationError:  # not every URL has a port
            return place

    def client_url(self, url: str, folder: Path, **options: str) -> str:
        """Return *url* with the options that each consumer's URL gets, and *options* (``x_y="1"``)."""
        return with_options(url, {**filled(self.client_options, folder), **_in_kebab_case(options)})

    def listener_url(self, url: str, folder: Path, **options: str) -> str:
        """Return *url* with the options that each listener's URL gets, and *options*."""
        return with_options(url, {**filled(self.listener_options, folder), **_in_kebab_case(options)})


def filled(options: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return *options* with *folder* in the place of ``{tmp}``."""
    return {name: value.replace("{tmp}", str(folder)) for name, value in options.items()}


def with_options(url: str, options: Mapping[str, str]) -> str:
    """Return *url* with more options, encoded; one that it has already is replaced."""
    from urllib.parse import quote

    bare, _, query = url.partition("?")
    kept = [pair for pair in query.split("&") if pair and pair.partition("=")[0] not in options]
    added = [f"{name}={quote(value, safe='/:,')}" for name, value in options.items()]
    return "?".join(filter(None, (bare, "&".join(kept + added))))


def _in_kebab_case(options: Mapping[str, str]) -> dict[str, str]:
    """Return *options*, named as Python names parameters, with the names that they have in URLs."""
    return {name.replace("_", "-"): value for name, value in options.items()}

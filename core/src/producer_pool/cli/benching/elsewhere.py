"""A daemon that runs already: bench sends to where it listens, and listens where its consumers are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from producer_pool.cli.benching.relay import Relay
from producer_pool.contract.transport import Transport
from producer_pool.discovery.factory import ClientFactory
from producer_pool.discovery.registry import Registry
from producer_pool.model.endpoint import Endpoint, redact
from producer_pool.model.errors import ConfigurationError

__all__ = ["Elsewhere"]


@dataclass(frozen=True)
class Elsewhere(Relay):
    """It is neither started nor ended, and so nothing is known of its CPU time and its memory."""

    to: str = field(repr=False)
    listen: tuple[str, ...] = field(repr=False)
    ends: tuple[tuple[str, Transport], ...] = field(repr=False)
    """Through which messages go to it, and come from it, by scheme."""

    @classmethod
    def of(cls, to: str, listen: Sequence[str], registry: Registry) -> Self:
        """
        Return the daemon that listens at *to*, and has consumers at *listen*, which must not be there yet.

        Raises:
            ConfigurationError: one of the URLs cannot be used.
            PluginError: no plugin for it can be had.
        """
        if len(set(listen)) < len(listen):
            raise ConfigurationError("--listen names a URL twice; each consumer has a place of its own")
        factory = ClientFactory(registry)
        factory.create(to)
        for url in listen:
            factory.listener(url)
        schemes = [Endpoint.parse(url).scheme for url in (to, *listen)]
        return cls(to, tuple(listen), tuple([(scheme, registry.transport(scheme)) for scheme in schemes]))

    @property
    def text(self) -> str:
        """What it is called. What is secret in its URL is hidden."""
        return redact(self.to)

    @property
    def places(self) -> tuple[str, ...]:
        """Where its consumers are, for people."""
        return tuple(map(redact, self.listen))

    def listener_url(self, number: int) -> str:
        return self.listen[number]

    def start(self, urls: Mapping[int, str]) -> None:
        """Do nothing: it runs, and was told where its consumers are."""

    def url(self) -> str:
        return self.to

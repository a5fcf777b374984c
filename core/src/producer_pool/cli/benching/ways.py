"""The protocol that is measured: one scheme with its options, and the URLs of both ends that come of it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Self

from producer_pool.cli.benching.certificate import CERTIFICATE, KEY
from producer_pool.contract.delivery_options import delivery_options
from producer_pool.contract.options import describe
from producer_pool.contract.transport import Transport
from producer_pool.discovery.registry import Registry
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, InvalidOption
from producer_pool.model.policies import DeliveryPolicy
from producer_pool.model.text import suggestion
from producer_pool.testing.subject import Subject, with_options

__all__ = ["Way"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]*\Z")
_ANSWERED: Final = ("app", "peer")
"""Levels for which consumers have to answer, and so their listeners have to be told after what."""


@dataclass(frozen=True)
class Way:
    """
    One protocol with its options, each of which goes to the ends that know it.

    ``tcp?ack=app&max-message=1KiB`` is a scheme with options. A URL is used as it is: ``{tmp}`` in it, and
    in options, is a folder that is new for each end, and port 0 any free one.
    """

    text: str
    """As it was written, for people. What is secret in it is hidden."""
    subject: Subject = field(repr=False)
    delivery: Mapping[str, str] = field(repr=False)
    """Options of the producer that sends to a consumer."""

    @classmethod
    def of(
        cls, text: str, registry: Registry, client: Mapping[str, str], listener: Mapping[str, str]
    ) -> Self:
        """
        Read what somebody wrote; *client* and *listener* are more options, for one end only.

        Raises:
            UsageError: the scheme does not say where its ends can meet on this machine.
            ConfigurationError: it cannot be measured, or has no such option.
            PluginError: no plugin for it can be had.
        """
        place, _, query = text.partition("?")
        named = _SCHEME.match(place) is not None
        scheme = (place if named else Endpoint.parse(place.replace("{tmp}", "/tmp")).scheme).lower()
        transport = registry.transport(scheme)
        if transport.client is None or transport.listener is None:
            there = "listens" if transport.client is None else "sends"
            raise ConfigurationError(
                f"{scheme} only {there}, and a bench needs both ends of it: consumers listen, and the relay "
                "sends; take a scheme that has both, such as tcp"
            )
        asked = Endpoint.parse(f"{scheme}:?{query}" if query else f"{scheme}:")
        known = _known(transport)
        given: dict[str, dict[str, str]] = {end: {} for end in known}
        for name, value in asked.options.items():
            ends = [end for end, names in known.items() if name in names]
            if not ends:
                words = sorted({word for names in known.values() for word in names})
                raise InvalidOption(
                    f"{scheme} has no option {name}; known: {', '.join(words)}{suggestion(name, words)}"
                )
            for end in ends:
                given[end][name] = value
        given["listener"].update(listener)
        if given["delivery"].get("ack") in _ANSWERED and "ack-after" in known["listener"]:
            given["listener"].setdefault("ack-after", "received")
        given["client"].update(client)
        make: Callable[..., Subject] = Subject.of_scheme if named else Subject
        subject = make(
            scheme if named else place,
            registry,
            client_options=given["client"],
            listener_options=given["listener"],
        )
        shown = str(asked).partition("?")
        return cls(f"{place if named else subject.shown}{shown[1]}{shown[2]}", subject, given["delivery"])

    @property
    def scheme(self) -> str:
        """What it is called."""
        return self.subject.scheme

    @property
    def transport(self) -> Transport:
        """What its plugin declares."""
        return self.subject.transport

    @property
    def ends(self) -> tuple[tuple[str, Transport], ...]:
        """Through which messages go, by scheme."""
        return ((self.scheme, self.transport),)

    @property
    def wants_certificate(self) -> bool:
        """Whether it has TLS, and nobody said which certificate a listener shows."""
        options = self.subject.listener_options
        return "tls-cert" in _known(self.transport)["listener"] and "tls-cert" not in options

    def certified(self, folder: Path) -> Self:
        """Return it with the certificate that lies in *folder*, trusted by the other end."""
        certificate, key = str(folder / CERTIFICATE), str(folder / KEY)
        subject = replace(
            self.subject,
            listener_options={**self.subject.listener_options, "tls-cert": certificate, "tls-key": key},
            client_options={"tls-ca": certificate, **self.subject.client_options},
        )
        return replace(self, subject=subject)

    def check(self, folder: Path) -> None:
        """
        Make each end once, so that what is wrong with an option is told before anything starts.

        Raises:
            ConfigurationError: an end cannot be made.
        """
        subject = self.subject
        place = subject.place(folder)
        subject.factory.listener(subject.listener_url(place, folder))
        url = self.consumer_url(subject.consumer_place(place), folder)
        subject.factory.plan(url, DeliveryPolicy.relay())

    def listener_url(self, folder: Path) -> str:
        """Return where somebody listens who has *folder* for himself."""
        return self.subject.listener_url(self.subject.place(folder), folder)

    def producer_url(self, listening: str, folder: Path) -> str:
        """Return how one sends to who listens at *listening*."""
        endpoint = Endpoint.parse(listening)
        return self.subject.client_url(endpoint.without(endpoint.options).raw, folder)

    def consumer_url(self, listening: str, folder: Path) -> str:
        """Return the same for a producer of the relay, which has a policy."""
        return with_options(self.producer_url(listening, folder), self.delivery)


def _known(transport: Transport) -> dict[str, list[str]]:
    """Return the options that each end knows."""
    kinds = {"client": transport.options, "listener": transport.listener_options or transport.options}
    known = {
        end: [one.name for one in describe(kind)] if kind is not None else [] for end, kind in kinds.items()
    }
    known["client"].append("timeout")
    return {**known, "delivery": [one.name for one in delivery_options()]}

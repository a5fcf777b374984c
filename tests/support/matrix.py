"""Every way in which the transports of this tree carry messages: schemes, and options that change that."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from producer_pool.contract.transport import Transport
from producer_pool.discovery.registry import default_registry
from producer_pool.testing.subject import with_options
from support.certificates import Authority
from support.tree import PLUGINS

__all__ = ["Way", "schemes_of_this_tree", "ways"]


@dataclass(frozen=True)
class Way:
    """One transport with options that matter for what it can carry."""

    scheme: str
    options: dict[str, str] = field(default_factory=dict, hash=False)

    @property
    def transport(self) -> Transport:
        return default_registry().transport(self.scheme)

    @property
    def name(self) -> str:
        return " ".join((self.scheme, *self.options.values()))

    @property
    def id(self) -> str:
        """Its name as the id of a producer."""
        return self.name.replace("+", "-").replace(" ", "-")

    def carries(self, message: bytes) -> bool:
        """Whether it can carry *message* unchanged: by what its protocol says, not by what its code does."""
        limit = self.transport.max_message
        if limit is not None and len(message) > limit:
            return False
        if self.options.get("framing") == "lines":
            return b"\n" not in message
        if self.options.get("frames") == "text":
            return _is_text(message)
        return True

    @property
    def serves(self) -> bool:
        """Whether its consumers connect to it, and it listens."""
        return self.scheme.endswith("+serve")

    def listening_url(self, folder: Path, authority: Authority) -> str:
        """Return a URL of it to listen at: for its listener, or for its client if that one serves."""
        options = dict(self.options)
        kind = self.transport.options if self.serves else self.transport.listener_options
        if "frames" not in _names(kind):  # A listener takes both kinds as they come.
            options.pop("frames", None)
        if "strip" in _names(kind):
            options["strip"] = "no"
        if "tls-cert" in _names(kind):
            identity = authority.issue()
            options |= {"tls-cert": str(identity.cert), "tls-key": str(identity.key)}
        return with_options(self._place(folder), options)

    def client_url(self, listening: str, authority: Authority) -> str:
        """Return a URL of it that reaches *listening*."""
        options = dict(self.options)
        if "tls-ca" in _names(self.transport.options):
            options["tls-ca"] = str(authority.file)
        return with_options(listening.partition("?")[0], options)

    def _place(self, folder: Path) -> str:
        loopback = self.transport.loopback
        assert loopback, f"{self.scheme} does not say where its ends can meet"
        return loopback.replace("{tmp}", str(folder))


def schemes_of_this_tree() -> list[str]:
    """Return the schemes of the plugins in this tree, whichever there are."""
    own = {f"producer-pool-{path.name}" for path in PLUGINS.iterdir()}
    return [one.scheme for one in default_registry().installed() if one.distribution in own]


def ways() -> Iterator[Way]:
    """Yield every way in which the transports of this tree send."""
    for scheme in schemes_of_this_tree():
        known = _names(default_registry().transport(scheme).options)
        if "framing" in known:
            yield from (Way(scheme, {"framing": framing}) for framing in ("lines", "length4"))
        elif "frames" in known:
            yield from (Way(scheme, {"frames": frames}) for frames in ("text", "binary"))
        else:
            yield Way(scheme)


def _names(kind: type | None) -> set[str]:
    return set() if kind is None else {one.name.replace("_", "-") for one in dataclasses.fields(kind)}


def _is_text(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True

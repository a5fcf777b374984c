"""What the parts of a new plugin are called, all of it made from its scheme."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from producer_pool.discovery.faults import PUBLISHED
from producer_pool.discovery.installed import TRANSPORTS, Provided, normalized
from producer_pool.model.errors import ConfigurationError

__all__ = ["Names", "core_bounds"]

_SCHEME: Final = re.compile(r"[a-z][a-z0-9]*([+-][a-z0-9]+)*")
_DISTRIBUTION: Final = re.compile(r"[a-z][a-z0-9]*([._-][a-z0-9]+)*")


@dataclass(frozen=True)
class Names:
    """The names in a new plugin."""

    scheme: str
    distribution: str
    author: str

    @classmethod
    def of(cls, scheme: str, *, distribution: str | None = None, author: str | None = None) -> Names:
        """
        Return the names for *scheme*; by default the distribution is called ``producer-pool-SCHEME``.

        Raises:
            ConfigurationError: one cannot be used; the text says what can.
        """
        if not _SCHEME.fullmatch(scheme):
            raise ConfigurationError(
                f"{scheme!a} is no scheme; one has small letters and digits, and begins with a letter; "
                "- or + may stand between: fifo, my-queue, fifo+tls"
            )
        name = distribution or f"producer-pool-{scheme.replace('+', '-')}"
        if not _DISTRIBUTION.fullmatch(name):
            raise ConfigurationError(
                f"{name!a} is no name for a distribution; one has small letters and digits, and begins "
                "with a letter; - may stand between: producer-pool-fifo"
            )
        author = f"{name} contributors" if author is None else " ".join(author.split())
        if not author or not author.isprintable():
            raise ConfigurationError("the author is empty, or cannot be printed")
        return cls(scheme, name, author)

    def check_free(self, installed: Iterable[Provided]) -> None:
        """
        Check that nobody has these names already: an *installed* distribution, or one that is published.

        Raises:
            ConfigurationError: somebody has; the text says who.
        """
        owners = {one.scheme: one.title for one in installed if one.group == TRANSPORTS}
        owner = owners.get(self.scheme) or PUBLISHED.get(self.scheme)
        if owner is not None:
            raise ConfigurationError(
                f"{self.scheme}:// is handled by {owner}, and two plugins for one scheme are an error; "
                "choose another name"
            )
        taken = {normalized(one.distribution) for one in installed} | set(PUBLISHED.values())
        if normalized(self.distribution) in taken | {"producer-pool"}:
            raise ConfigurationError(f"there is a {self.distribution} already; choose another name")

    @property
    def package(self) -> str:
        """What is imported."""
        return re.sub(r"[._-]", "_", self.distribution)

    @property
    def title(self) -> str:
        """What its classes begin with: ``FifoTls``."""
        return "".join(part.capitalize() for part in re.split("[+-]", self.scheme))

    def filled_in(self, version: str) -> dict[str, str]:
        """Return what the templates ask for; *version* is that of the core which the plugin is made for."""
        module = re.sub("[+-]", "_", self.scheme)
        return {
            "author": self.author,
            "author_quoted": '"' + self.author.replace("\\", "\\\\").replace('"', '\\"') + '"',
            "bounds": core_bounds(version),
            "distribution": self.distribution,
            "entry_point": f'"{self.scheme.replace("+", ".")}"' if "+" in self.scheme else self.scheme,
            "module": module,
            "package": self.package,
            "scheme": self.scheme,
            "title": self.title,
            "year": str(time.localtime().tm_year),
        }


def core_bounds(version: str) -> str:
    """Return the bounds on core for a plugin that is made for its *version*: ``>=0.1,<0.2``, ``>=1.4,<2``."""
    major, minor = map(int, version.split(".")[:2])
    return f">={major}.{minor},<{major}.{minor + 1}" if major == 0 else f">={major}.{minor},<{major + 1}"

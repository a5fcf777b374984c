"""Which installed plugins may be used, and which of two that claim one scheme."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from producer_pool.discovery.installed import Provided, normalized
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.fieldwise import Fieldwise

__all__ = ["ALLOW", "CHOOSE", "DENY", "REQUIRE", "PluginSelection", "choice_name"]

ALLOW: Final = "PRODUCER_POOL_PLUGINS"
DENY: Final = "PRODUCER_POOL_DISABLE_PLUGINS"
REQUIRE: Final = "PRODUCER_POOL_REQUIRE_PLUGINS"
CHOOSE: Final = "PRODUCER_POOL_PLUGIN_"
"""Before a scheme, in capitals."""

CORE: Final = "producer-pool"
"""Its own sinks are no plugins: the lists do not concern them."""


def choice_name(scheme: str) -> str:
    """Return *scheme* as it stands in the name of a variable: ``TCP_TLS`` for tcp+tls."""
    return re.sub(r"\W", "_", scheme).upper()


@dataclass(frozen=True, eq=False, repr=False)
class PluginSelection(Fieldwise):
    """What the operator wants. Distributions are compared by their normalized names."""

    allow: frozenset[str] | None = None
    """Only these distributions; None: all that are installed."""
    deny: frozenset[str] = frozenset()
    """Not these."""
    required: frozenset[str] = frozenset()
    """Not without these."""
    chosen: Mapping[str, str] = field(default_factory=dict)
    """choice_name() of a scheme -> the distribution that serves it."""

    @classmethod
    def of(
        cls,
        allow: Iterable[str] | None = None,
        deny: Iterable[str] = (),
        chosen: Mapping[str, str] | None = None,
        required: Iterable[str] = (),
    ) -> PluginSelection:
        """Make a selection from names in any spelling; *chosen* is by scheme."""
        return cls(
            allow=None if allow is None else frozenset(map(normalized, allow)),
            deny=frozenset(map(normalized, deny)),
            required=frozenset(map(normalized, required)),
            chosen={choice_name(scheme): normalized(name) for scheme, name in (chosen or {}).items()},
        )

    @classmethod
    def from_env(cls, environ: Mapping[str, str]) -> PluginSelection:
        """
        Read the four kinds of variables; names in the lists are separated by commas.

        An empty ``PRODUCER_POOL_PLUGINS`` allows none.

        Raises:
            ConfigurationError: a choice names no distribution.
        """
        chosen = {}
        for name, value in environ.items():
            if name.startswith(CHOOSE):
                if not value.strip():
                    raise ConfigurationError(f"{name} is empty; write {name}=DISTRIBUTION, or unset it")
                chosen[name.removeprefix(CHOOSE)] = value.strip()
        allow = environ.get(ALLOW)
        deny, required = (_names(environ.get(name, "")) for name in (DENY, REQUIRE))
        return cls.of(None if allow is None else _names(allow), deny, chosen, required)

    def over(self, other: PluginSelection) -> PluginSelection:
        """Return this selection with *other* behind it; what either denies or requires, both do."""
        return PluginSelection(
            allow=other.allow if self.allow is None else self.allow,
            deny=self.deny | other.deny,
            required=self.required | other.required,
            chosen={**other.chosen, **self.chosen},
        )

    def refusal(self, provided: Provided) -> str:
        """Say why what is *provided* may not be used; empty: it may."""
        name = normalized(provided.distribution)
        if name == CORE:
            return ""
        if name in self.deny:
            return f"it is disabled ({DENY})"
        if self.allow is not None and name not in self.allow:
            return f"it is not among those allowed ({ALLOW})"
        return ""

    def requires(self, distribution: str) -> bool:
        """Whether messages may not be forwarded without that."""
        return normalized(distribution) in self.required

    def choice(self, scheme: str) -> str | None:
        """Return the distribution that was chosen for *scheme*."""
        return self.chosen.get(choice_name(scheme))


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]

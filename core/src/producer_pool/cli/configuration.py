"""What a pool consists of, by options, environment and file; and all that is wrong with it."""
# Rule: nothing here needs click. A daemon that is started as usual never loads it.

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from producer_pool.cli.circles import circles
from producer_pool.cli.exits import CONFIGURATION, leave
from producer_pool.cli.quotas import quotas
from producer_pool.discovery.config import SETTINGS, Settings
from producer_pool.model.endpoint import is_url
from producer_pool.model.errors import ConfigurationError, PluginError

if TYPE_CHECKING:
    from producer_pool.discovery.factory import ClientFactory

__all__ = [
    "NO_PRODUCERS",
    "Problems",
    "factory_for",
    "no_producers",
    "read_settings",
    "settings_of",
    "without_bad_letters",
]

NO_PRODUCERS: Final = (
    "no producers are configured, so there is nowhere to forward to; name one: "
    "--to tcp://127.0.0.1:9000, or PRODUCER_CONSUMER1=tcp://127.0.0.1:9000 in the environment, "
    "or [producers.consumer1] in a file for --config"
)


def no_producers() -> list[str]:
    """Return what to say where none are configured, also of variables that may be meant as some."""
    from producer_pool.discovery.environment import misnamed

    return [NO_PRODUCERS, *misnamed(os.environ)]


class Problems:
    """What is wrong with a configuration: all of it, so that nobody has to come back for each."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    @contextmanager
    def collected(self, origin: str = "") -> Iterator[None]:
        """Note an error about what somebody wrote, at *origin*, and go on. One of all is noted once."""
        try:
            yield
        except (ConfigurationError, PluginError) as error:
            if str(error) not in self.errors:
                self.errors.append(f"{origin}: {error}" if origin else str(error))

    def leave_if_any(self) -> None:
        """End the process with a line for each problem, if there are some."""
        if self.errors:
            leave(CONFIGURATION, self.errors)


def read_settings(given: Mapping[str, Any], problems: Problems) -> Settings:
    """Return the settings that the options in *given*, the environment and a file come to."""
    settings = settings_of(given, problems)
    problems.errors += circles(settings)
    problems.errors += quotas(settings)
    return settings


def settings_of(given: Mapping[str, Any], problems: Problems) -> Settings:
    """The same for a command that does not listen: it may well send to where a daemon does."""
    flags = {name: given[setting.key] for name, setting in SETTINGS.items() if setting.key in given}
    faults: list[ConfigurationError] = []
    settings = Settings.read(to=given["to"], flags=flags, faults=faults)
    problems.errors += map(str, faults)
    return settings.for_daemon()


def factory_for(settings: Settings, problems: Problems) -> ClientFactory:
    """Return the factory with the plugins that *settings* choose and name."""
    from producer_pool.discovery.factory import ClientFactory
    from producer_pool.discovery.registry import Registry

    registry = Registry(settings.plugins)
    for path in settings.plugin_files:
        with problems.collected():
            registry.register_file(path)
    with problems.collected():
        registry.check_required()
    return ClientFactory(registry, settings.delivery)


def without_bad_letters(settings: Settings, factory: ClientFactory, problems: Problems) -> Settings:
    """
    Return *settings*; if their URL for dead letters cannot be used, that is noted, and they lack it.

    Each producer would name it otherwise, as if it stood in its own URL.
    """
    place = settings.dead_letters
    if place is not None and is_url(place):
        from producer_pool.dead_letter_office import plan_for_letters

        known = len(problems.errors)
        with problems.collected(settings.origins["dead-letters"]):
            plan_for_letters(factory, place)
        if len(problems.errors) > known:
            return replace(settings, dead_letters=None)
    return settings

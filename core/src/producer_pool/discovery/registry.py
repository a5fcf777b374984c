"""
Scheme -> Transport: the one place that knows entry points and pluggy.

Loading takes one step after another, and a failure takes back what the step before had registered: find the
entry points for exactly the scheme asked, leave out those that may not be used, refuse two distributions,
import, register as ``distribution:value``, check the hooks, check what is offered.
"""
# Rule: only the plugin that a URL asks for is imported, and nothing is imported for a list. pluggy and
# importlib_metadata cost as much to import as the rest of the package: they are imported when first needed.

from __future__ import annotations

import functools
import logging
import os
import sys
import threading
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar

from producer_pool.contract.ports import Client, Listener
from producer_pool.contract.transport import Transport
from producer_pool.discovery.faults import faulty, scheme_conflict, spell, unknown_scheme
from producer_pool.discovery.importing import import_plugin
from producer_pool.discovery.installed import PLUGINS, TRANSPORTS, Provided, normalized, scan
from producer_pool.discovery.selection import CHOOSE, REQUIRE, PluginSelection, choice_name
from producer_pool.discovery.wiring import Implementation, PluginWiring
from producer_pool.model.errors import ConfigurationError, PluginError, PluginLoadError, ProducerPoolError

if TYPE_CHECKING:
    from pathlib import Path

    import pluggy

    from producer_pool.model.endpoint import Endpoint

__all__ = ["Loaded", "Registry", "default_registry"]

T = TypeVar("T")

_log: Final = logging.getLogger(__name__)


class Loaded(NamedTuple):
    """A transport that is ready for use, and where it comes from."""

    transport: Transport
    provided: Provided
    plugin: object
    """The module, or object, that holds its hooks."""


class Registry:
    """
    The plugins of this process, loaded when asked for. Safe to use from several threads.

    A plugin that cannot be used is an error for whoever asks for its scheme, and for nobody else. What
    is loaded stays loaded. A scheme that nobody handled is looked for anew each time it is asked for, so
    that what is installed while the program runs is found.
    """

    def __init__(self, selection: PluginSelection | None = None) -> None:
        """Make a registry; *selection* is by default what the environment says."""
        self.selection = PluginSelection.from_env(os.environ) if selection is None else selection
        self.problems: tuple[PluginError, ...] = ()
        """Why wiring plugins are missing. Each was logged, and stopped nothing."""
        self._lock = threading.RLock()
        self._loaded: dict[str, Loaded] = {}
        self._registered: dict[str, Loaded] = {}
        self._wired: list[tuple[Provided, object]] | None = None
        self._pluggy: pluggy.PluginManager | None = None
        self._scanned: tuple[list[str], tuple[Provided, ...]] | None = None

    # -- what is there -------------------------------------------------------------------------

    def installed(self) -> tuple[Provided, ...]:
        """Return what is installed or registered, also what may not be used. Imports no plugin."""
        self._scanned = None
        entries = {*self._entries(), *(loaded.provided for loaded in self._registered.values())}
        return tuple(sorted(entries, key=lambda entry: (entry.group != TRANSPORTS, entry)))

    def schemes(self) -> list[str]:
        """Return the schemes that can be asked for. Imports no plugin."""
        return self._schemes(self._entries())

    def _schemes(self, entries: Iterable[Provided]) -> list[str]:
        usable = {
            entry.scheme
            for entry in entries
            if entry.group == TRANSPORTS and not self.selection.refusal(entry)
        }
        return sorted(usable | self._registered.keys())

    def _entries(self) -> tuple[Provided, ...]:
        """Return the entry points of all installed distributions, the cheap way where that is sure."""
        if self._scanned is None or self._scanned[0] != sys.path:
            found = scan(sys.path)
            self._scanned = (sys.path.copy(), _ask_importlib_metadata() if found is None else found)
        return self._scanned[1]

    # -- from a scheme to its transport --------------------------------------------------------

    def transport(self, scheme: str) -> Transport:
        """
        Return the transport for *scheme*.

        Raises:
            UnknownScheme: nobody handles it.
            SchemeConflict: two distributions do, and none is chosen.
            PluginLoadError: the one that does may not be used, cannot be imported, or is not right.
            ConfigurationError: one is chosen that does not handle it.
        """
        return self.load(scheme).transport

    def load(self, scheme: str) -> Loaded:
        """Return the transport for *scheme* with where it comes from. Raises what transport() raises."""
        with self._lock:
            found = self._registered.get(scheme) or self._loaded.get(scheme)
            if found is None:
                found = self._loaded[scheme] = self._load(*self._claim(scheme))
            return found

    def _claim(self, scheme: str) -> tuple[Provided, tuple[Provided, ...]]:
        """Return the one entry point that serves *scheme*, and all of its distribution."""
        entries = self._entries()
        claims = _claims(entries, scheme)
        if len(claims) != 1:
            entries = _ask_importlib_metadata()
            claims = _claims(entries, scheme)
        choice = self.selection.choice(scheme)
        if choice is not None and claims:
            chosen = [claim for claim in claims if normalized(claim.distribution) == choice]
            if not chosen:
                names = ", ".join(claim.title for claim in claims)
                variable = CHOOSE + choice_name(scheme)
                raise ConfigurationError(f"{variable}={choice}, but {scheme}:// is handled by: {names}")
            claims = chosen
        usable = [claim for claim in claims if not self.selection.refusal(claim)]
        if len(usable) > 1:
            raise scheme_conflict(scheme, usable)
        if usable:
            own = [entry for entry in entries if entry.distribution == usable[0].distribution]
            return usable[0], tuple(own)
        if claims:
            raise faulty(claims[0], f"handles {scheme}://, but {self.selection.refusal(claims[0])}")
        raise unknown_scheme(scheme, self._schemes(entries))

    def _load(self, entry: Provided, own: Iterable[Provided]) -> Loaded:
        from producer_pool.discovery.checks import check_schemes

        plugin = import_plugin(entry)
        with self._registration(entry, plugin):
            transports = check_schemes(entry, self._offered(entry, plugin), own)
        return Loaded(transports[entry.scheme], entry, plugin)

    def _manager(self) -> pluggy.PluginManager:
        if self._pluggy is None:
            import pluggy

            from producer_pool.contract import hookspecs
            from producer_pool.discovery import answers

            self._pluggy = pluggy.PluginManager(hookspecs.PROJECT)
            self._pluggy.add_hookspecs(hookspecs)
            self._pluggy.register(answers, "producer-pool:answers")
        return self._pluggy

    @contextmanager
    def _registration(self, entry: Provided, plugin: object) -> Iterator[None]:
        """Register *plugin*, unless it is registered already, and take that back if what follows fails."""
        from producer_pool.discovery.checks import check_hooks

        manager = self._manager()
        if manager.is_registered(plugin):
            yield
            return
        try:
            try:
                manager.register(plugin, _key(entry))
            except Exception as error:  # pluggy's own validation, or an unusual object
                raise faulty(entry, f"cannot be registered: {spell(error)}") from error
            check_hooks(entry, manager.get_hookcallers(plugin) or (), plugin)
            yield
        except BaseException:
            if manager.is_registered(plugin):
                manager.unregister(plugin)
            raise

    def _offered(self, entry: Provided, plugin: object) -> list[Transport]:
        """Ask *plugin*, and nobody else, for its transports."""
        from producer_pool.discovery.checks import check_transports

        manager = self._manager()
        others = [other for other in manager.get_plugins() if other is not plugin]
        ask = manager.subset_hook_caller("producer_pool_transports", others)
        try:
            items = [item for result in ask() for item in result]
        except Exception as error:
            raise faulty(entry, f"fails in producer_pool_transports(): {spell(error)}") from error
        return check_transports(entry, items)

    # -- what the program registers itself -----------------------------------------------------

    def register(self, plugin: object, name: str) -> tuple[Transport, ...]:
        """
        Register a module or object with hooks, and return its transports. Errors and lists call it *name*.

        Its schemes need no entry points and come before those of installed distributions. Its other
        hooks work as those of a wiring plugin.

        Raises:
            PluginLoadError: a hook or a transport is not right, or *plugin* is registered already.
            SchemeConflict: something else was registered for one of its schemes.
        """
        entry = Provided(PLUGINS, name, name, "", name)
        with self._lock:
            if self._manager().is_registered(plugin) or self._manager().has_plugin(_key(entry)):
                raise faulty(entry, "is registered already; once is enough")
            wired = self._wiring_plugins()
            with self._registration(entry, plugin):
                if not self._manager().get_hookcallers(plugin):
                    raise faulty(
                        entry, "adds nothing: mark its hooks with @hookimpl, from producer_pool.plugin"
                    )
                transports = self._offered(entry, plugin)
                added = {}
                for scheme in [scheme for transport in transports for scheme in transport.schemes]:
                    claim = Provided(TRANSPORTS, scheme.replace("+", "."), name, "", name)
                    if other := self._registered.get(scheme):
                        raise scheme_conflict(scheme, [other.provided, claim])
                    transport = next(one for one in transports if scheme in one.schemes)
                    added[scheme] = Loaded(transport, claim, plugin)
            self._registered |= added
            wired.append((entry, plugin))
        return tuple(transports)

    def register_file(self, path: str | Path) -> tuple[Transport, ...]:
        """
        Import one file and register it, as ``--plugin ./fifo.py`` does.

        Raises:
            PluginLoadError: it cannot be read or imported, or what register() raises.
        """
        from producer_pool.discovery.plugin_file import import_file

        entry = Provided(PLUGINS, str(path), str(path), "", str(path))
        return self.register(import_file(path, entry), str(path))

    # -- asking the hooks ----------------------------------------------------------------------

    def make_client(self, endpoint: Endpoint, options: Any) -> Client:
        """
        Have the plugin of *endpoint* make a client; the hooks may wrap it.

        Raises:
            ConfigurationError: the plugin refuses the URL or an option.
            PluginLoadError: a plugin fails in another way. The text shows no secret of the endpoint.
        """
        return self._make("producer_pool_make_client", Client, endpoint, options)  # type: ignore[type-abstract]

    def make_listener(self, endpoint: Endpoint, options: Any) -> Listener:
        """Have the plugin of *endpoint* make a listener. Raises what make_client() raises."""
        return self._make("producer_pool_make_listener", Listener, endpoint, options)  # type: ignore[type-abstract]

    def _make(self, hook: str, kind: type[T], endpoint: Endpoint, options: Any) -> T:
        from producer_pool.discovery import answers

        owner = self.load(endpoint.scheme)
        with self._lock:
            asked = [owner.plugin, answers, *(plugin for _, plugin in self._wiring_plugins())]
            others = [
                one for one in self._manager().get_plugins() if not any(one is other for other in asked)
            ]
            ask = self._manager().subset_hook_caller(hook, others)
        try:
            made = ask(transport=owner.transport, endpoint=endpoint, options=options)
        except Exception as error:
            failure = self._failure(error, owner, hook, endpoint)
            if failure is error:
                raise
        else:
            if isinstance(made, kind):
                return made
            failure = faulty(
                owner.provided, f"made a {type(made).__name__} for {endpoint}, not a {kind.__name__}"
            )
        # Outside of the handler: a context would be printed in a traceback, with the secrets in its text.
        raise failure

    def _failure(self, error: Exception, owner: Loaded, hook: str, endpoint: Endpoint) -> ProducerPoolError:
        """Return what to raise for a plugin's error: itself if it is made for people and shows no secret."""
        whole = "".join(traceback.format_exception(error))
        if isinstance(error, ProducerPoolError) and endpoint.scrub(whole) == whole:
            return error
        if isinstance(error, ConfigurationError):
            return ConfigurationError(endpoint.scrub(str(error)))
        culprit = self._culprit(error, owner)
        return faulty(culprit, f"fails in {hook}() for {endpoint}: {endpoint.scrub(spell(error))}")

    def _culprit(self, error: Exception, owner: Loaded) -> Provided:
        """Return whose code raised *error*: the owner of the scheme, or a plugin that wraps what it makes."""
        suspects = {_package(plugin): entry for entry, plugin in self._wiring_plugins()}
        suspects[_package(owner.plugin)] = owner.provided
        culprit = owner.provided
        for frame, _ in traceback.walk_tb(error.__traceback__):
            name = str(frame.f_globals.get("__name__", "")).partition(".")[0]
            culprit = suspects.get(name, culprit)
        return culprit

    # -- wiring plugins ------------------------------------------------------------------------

    def wiring(self) -> PluginWiring:
        """Return what plugins add to a pool. The wiring plugins are loaded when it is first asked."""
        return PluginWiring(
            self.implementations, check_required=self.check_required, requires=self.selection.requires
        )

    def check_required(self) -> None:
        """
        Make sure that each plugin is there, and was loaded, without which no message may be forwarded.

        Raises:
            PluginLoadError: one is not installed, may not be used, or cannot be loaded.
        """
        if not self.selection.required:
            return
        with self._lock:
            self._wiring_plugins()
            entries = {normalized(entry.distribution): entry for entry in self._entries()}
            faults = {
                normalized(error.distribution): str(error)
                for error in self.problems
                if isinstance(error, PluginLoadError)
            }
        for name in sorted(self.selection.required):
            entry = entries.get(name)
            refusal = "it is not installed" if entry is None else self.selection.refusal(entry)
            fault = f"{name}: {refusal}" if refusal else faults.get(name)
            if fault:
                text = f"{fault}; it is required ({REQUIRE}): no message may go without it"
                raise PluginLoadError(text, distribution=name)

    def implementations(self, hook: str) -> list[Implementation]:
        """Return who implements *hook*, in the order in which they are to be called."""
        with self._lock:
            self._wiring_plugins()
            if self._pluggy is None:
                return []
            found = reversed(getattr(self._pluggy.hook, hook).get_hookimpls())
            return [Implementation(one.plugin_name, one.function, tuple(one.argnames)) for one in found]

    def _wiring_plugins(self) -> list[tuple[Provided, object]]:
        """Load the wiring plugins, once, and return them. They are called in the order of their names."""
        if self._wired is None:
            self._wired = []
            entries = [
                entry
                for entry in self._entries()
                if entry.group == PLUGINS and not self.selection.refusal(entry)
            ]
            # pluggy calls the last one that was registered first.
            for entry in sorted(entries, key=lambda entry: (entry.distribution, entry.name), reverse=True):
                try:
                    plugin = import_plugin(entry)
                    with self._registration(entry, plugin):
                        self._wired.append((entry, plugin))
                except PluginError as error:
                    self.problems += (error,)
                    _log.error("%s; going on without it", error)
        return self._wired


@functools.cache
def default_registry() -> Registry:
    """Return the registry of the process, for whoever brings none."""
    return Registry()


def _ask_importlib_metadata() -> tuple[Provided, ...]:
    import importlib_metadata

    found = []
    for group in (TRANSPORTS, PLUGINS):
        for entry in importlib_metadata.entry_points(group=group):
            distribution = entry.dist
            try:
                assert distribution is not None
                value = entry.module + (f":{entry.attr}" if entry.attr else "")
                provided = Provided(
                    group,
                    entry.name,
                    distribution.name,
                    distribution.version,
                    value,
                    str(distribution.locate_file("")),
                    distribution.read_text("direct_url.json") or "",
                )
            except Exception as error:
                # Damaged metadata of one distribution must not hide the others.
                _log.warning("entry point %s of %s cannot be read: %s", entry.name, group, spell(error))
            else:
                found.append(provided)
    return tuple(found)


def _claims(entries: Iterable[Provided], scheme: str) -> list[Provided]:
    return sorted(entry for entry in entries if entry.group == TRANSPORTS and entry.scheme == scheme)


def _key(entry: Provided) -> str:
    """Return the name under which pluggy knows a plugin."""
    return f"{entry.distribution}:{entry.value}"


def _package(plugin: object) -> str:
    name: str = getattr(plugin, "__name__", None) or type(plugin).__module__
    return name.partition(".")[0]

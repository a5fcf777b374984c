"""What the plugins add to a pool besides protocols: their hooks, asked one by one, each contained."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from producer_pool.contract.interrupts import is_interrupt
from producer_pool.contract.ports import Observer, Stage
from producer_pool.contract.wiring import Wiring
from producer_pool.discovery.faults import spell
from producer_pool.discovery.selection import REQUIRE
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import PluginLoadError

__all__ = ["Implementation", "PluginWiring"]

_log: Final = logging.getLogger(__name__)


class Implementation(NamedTuple):
    """One plugin's implementation of one hook."""

    plugin: str
    """The name under which it is registered: ``distribution:module``."""
    function: Callable[..., Any]
    parameters: tuple[str, ...]
    """Those of the hook's parameters that it takes."""


class PluginWiring(Wiring):
    """
    Asks the hooks of all loaded plugins.

    An exception in one is logged with the plugin's name, and what that plugin would have added is
    missing; nothing else is disturbed. But no messages go past the stage of a plugin that is required.
    """

    def __init__(
        self,
        implementations: Callable[[str], Sequence[Implementation]],
        *,
        check_required: Callable[[], None],
        requires: Callable[[str], bool],
    ) -> None:
        """
        Make one.

        *implementations* returns who implements a hook, in the order in which they are to be called;
        *check_required* raises a PluginLoadError if a plugin is missing which *requires*, asked with its
        distribution, says is required.
        """
        self._implementations = implementations
        self._check_required = check_required
        self._requires = requires

    def stages(self, producer_id: str, endpoint: Endpoint | None) -> Sequence[Stage]:
        """
        Return what the batches of a producer go through.

        Raises:
            PluginLoadError: a plugin that is required is missing, or fails here.
        """
        self._check_required()
        found = self._ask("producer_pool_stage", producer_id=producer_id, endpoint=endpoint)
        stages = []
        for plugin, stage in found:
            if not callable(stage) and self._requires(_distribution(plugin)):
                raise _failed(plugin, f"a stage is a callable, not a {type(stage).__name__}")
            if _is(callable(stage), plugin, "a stage is a callable", stage):
                stages.append(stage)
        return stages

    def observers(self, pool: Any) -> Sequence[Observer]:
        found = self._ask("producer_pool_observer", pool=pool)
        wanted = "an observer has state_changed() and settled()"
        return [observer for plugin, observer in found if _is(_observes(observer), plugin, wanted, observer)]

    def started(self, pool: Any) -> None:
        for _ in self._ask("producer_pool_started", pool=pool):
            pass

    def stopping(self, pool: Any, deadline: float) -> None:
        for _ in self._ask("producer_pool_stopping", pool=pool, deadline=deadline):
            pass

    def commands(self, cli: Any) -> None:
        """Let the plugins add their commands to *cli*, a click group."""
        for _ in self._ask("producer_pool_commands", cli=cli):
            pass

    def _ask(self, hook: str, **arguments: Any) -> Iterator[tuple[str, Any]]:
        """Call *hook* on each plugin; yield the plugin's name and its answer where that is not None."""
        for plugin, function, parameters in self._implementations(hook):
            try:
                answer = function(*[arguments[name] for name in parameters])
            except BaseException as error:
                if is_interrupt(error):  # No plugin ends the program.
                    raise
                if hook == "producer_pool_stage" and self._requires(_distribution(plugin)):
                    fault = f"{hook}() failed: {spell(error)}"
                    endpoint = arguments["endpoint"]
                    raise _failed(plugin, fault if endpoint is None else endpoint.scrub(fault)) from None
                _log.exception("plugin %s: %s() failed; going on without it", plugin, hook)
            else:
                if answer is not None:
                    yield plugin, answer


def _is(right: bool, plugin: str, wanted: str, answer: object) -> bool:
    if not right:
        _log.error("plugin %s: %s, not a %s; going on without it", plugin, wanted, type(answer).__name__)
    return right


def _observes(answer: object) -> bool:
    return all(callable(getattr(answer, name, None)) for name in ("state_changed", "settled"))


def _distribution(plugin: str) -> str:
    return plugin.partition(":")[0]


def _failed(plugin: str, fault: str) -> PluginLoadError:
    text = f"plugin {plugin}: {fault}; it is required ({REQUIRE})"
    return PluginLoadError(text, distribution=_distribution(plugin))

"""What a plugin must be like; each check raises the error that names the fault and the way out."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from producer_pool.contract import hookspecs
from producer_pool.contract.options import describe
from producer_pool.contract.transport import API, Transport
from producer_pool.discovery.faults import faulty
from producer_pool.discovery.installed import TRANSPORTS, Provided
from producer_pool.model.text import suggestion

if TYPE_CHECKING:
    import pluggy

__all__ = ["check_hooks", "check_schemes", "check_transports"]

_HOOKS = [name for name in hookspecs.__all__ if name.startswith("producer_pool_")]
_WRAPPABLE = ("producer_pool_make_client", "producer_pool_make_listener")


def check_hooks(provided: Provided, callers: Iterable[pluggy.HookCaller], plugin: object) -> None:
    """
    Check the hooks that *plugin* implements, which pluggy has registered.

    Raises:
        PluginLoadError: a hook is misspelt, a parameter has a default, or a hook is wrapped that
            is not answered by one.
    """
    for caller in callers:
        for implementation in caller.get_hookimpls():
            if implementation.plugin is not plugin:
                continue
            if not caller.has_spec():
                if not implementation.optionalhook:
                    raise faulty(
                        provided,
                        f"implements {caller.name}, which is no hook{suggestion(caller.name, _HOOKS)}",
                    )
            elif defaults := _defaults(implementation.function):
                raise faulty(
                    provided,
                    f"gives a default to {', '.join(defaults)} in {caller.name}(); "
                    "hooks are never passed such parameters: leave the default out",
                )
            elif (implementation.wrapper or implementation.hookwrapper) and caller.name not in _WRAPPABLE:
                raise faulty(
                    provided, f"wraps {caller.name}(); only {' and '.join(_WRAPPABLE)} can be wrapped"
                )


def _defaults(function: Any) -> list[str]:
    parameters = inspect.signature(function).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is not parameter.empty]


def check_transports(provided: Provided, offered: Iterable[object]) -> list[Transport]:
    """
    Check what ``producer_pool_transports()`` returned and return it as a list.

    Raises:
        PluginLoadError: it is no Transport, speaks another version of the contract, or cannot be used.
    """
    transports: list[Transport] = []
    schemes: set[str] = set()
    for item in offered:
        if not isinstance(item, Transport):
            raise faulty(provided, f"offers a {type(item).__name__} as a transport; offer Transport(...)")
        if item.api != API:
            older = "this producer-pool" if item.api > API else provided.distribution
            raise faulty(
                provided,
                f"speaks version {item.api} of the plugin contract, and this producer-pool version {API}; "
                f"upgrade {older}",
            )
        if fault := _fault(item, schemes):
            raise faulty(provided, f"offers a transport that {fault}")
        schemes.update(item.schemes)
        transports.append(item)
    return transports


def _fault(transport: Transport, taken: set[str]) -> str:
    """Say what is wrong with *transport*; empty: nothing."""
    schemes = tuple(transport.schemes)
    if not schemes:
        return "has no scheme"
    for scheme in schemes:
        if scheme in taken or schemes.count(scheme) > 1:
            return f"has the scheme {scheme}, which it offers twice"
    if transport.client is None and transport.listener is None:
        return "has neither a client nor a listener"
    consumer: object = transport.trial_consumer
    if consumer is not None and not callable(consumer):
        return f"has {consumer!r} for trial_consumer, which cannot be called with a Trial"
    if not transport.acks:
        return "reaches no level of acknowledgement; leave acks out for WRITTEN"
    for options in filter(None, (transport.options, transport.listener_options)):
        if not dataclasses.is_dataclass(options):
            return f"has {options!r} for options, which is no dataclass"
        try:
            describe(options)
        except (TypeError, NameError) as error:
            return f"has options that cannot be read from a URL: {error}"
    return ""


def check_schemes(
    provided: Provided, transports: Iterable[Transport], own: Iterable[Provided]
) -> dict[str, Transport]:
    """
    Return the transports by scheme; *own* are all entry points of the plugin's distribution.

    Raises:
        PluginLoadError: a scheme is no entry point of the distribution, or the one of *provided* is missing.
    """
    by_scheme = {scheme: transport for transport in transports for scheme in transport.schemes}
    declared = {entry.scheme for entry in own if entry.group == TRANSPORTS}
    if strangers := sorted(by_scheme.keys() - declared):
        lines = ", ".join(f'"{scheme.replace("+", ".")}" = "{provided.value}"' for scheme in strangers)
        raise faulty(
            provided,
            f"offers {', '.join(strangers)}, which are no entry points of it; "
            f'its pyproject.toml lacks, under [project.entry-points."{TRANSPORTS}"]: {lines}',
        )
    if provided.scheme not in by_scheme:
        offers = ", ".join(sorted(by_scheme)) or "no transport"
        raise faulty(
            provided,
            f"has an entry point for {provided.scheme}, but {provided.value} offers {offers}; "
            "producer_pool_transports() needs @hookimpl and has to yield a Transport for it",
        )
    return by_scheme

"""The errors of plugins, each with the next step to take."""
# Rule: name only distributions that exist. An unregistered name in an install line is a gift to squatters.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

from producer_pool.discovery.installed import Provided
from producer_pool.discovery.selection import CHOOSE, choice_name
from producer_pool.model.errors import PluginLoadError, SchemeConflict, UnknownScheme
from producer_pool.model.text import suggestion

__all__ = ["PUBLISHED", "faulty", "scheme_conflict", "spell", "unknown_scheme"]

PUBLISHED: Final = {
    scheme: distribution
    for distribution, schemes in (
        ("producer-pool-tcp", ("tcp", "tcp+tls", "tcp+serve", "tcp+tls+serve")),
        ("producer-pool-udp", ("udp",)),
        ("producer-pool-unix", ("unix", "unix+dgram", "unix+serve")),
        ("producer-pool-websocket", ("ws", "wss", "ws+serve", "wss+serve")),
    )
    for scheme in schemes
}
"""Scheme -> the distribution that is known to serve it."""


def unknown_scheme(scheme: str, installed: Iterable[str]) -> UnknownScheme:
    """Return the error for a scheme that no installed plugin handles."""
    known = sorted(set(installed))
    text = f"no installed plugin handles {scheme}://; installed: {', '.join(known) or 'none'}"
    if scheme in PUBLISHED:
        return UnknownScheme(f"{text}; try: pip install {PUBLISHED[scheme]}", scheme=scheme)
    if meant := suggestion(scheme, known):
        return UnknownScheme(text + meant, scheme=scheme)
    return UnknownScheme(
        f"{text}; if there is one for {scheme}, your package index finds it by the words producer-pool and "
        f"{scheme}: look at who publishes it before you install it",
        scheme=scheme,
    )


def scheme_conflict(scheme: str, claims: Sequence[Provided]) -> SchemeConflict:
    """Return the error for a scheme that several installed distributions claim."""
    names = [claim.distribution for claim in claims]
    titles = ", ".join(f"{claim.title} ({claim.value})" for claim in claims)
    return SchemeConflict(
        f"{len(claims)} installed plugins handle {scheme}://: {titles}; "
        f"uninstall all but one, or choose one: {CHOOSE}{choice_name(scheme)}={names[0]}",
        scheme=scheme,
        distributions=names,
    )


def faulty(provided: Provided, fault: str) -> PluginLoadError:
    """Return the error for a plugin that is installed but cannot be used."""
    return PluginLoadError(f"{provided.title} {fault}", distribution=provided.distribution)


def spell(error: BaseException) -> str:
    """Return an exception in one line: its type, its text, and where it was raised, if that is in a file."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    file = trace.tb_frame.f_code.co_filename if trace else "<"
    where = "" if trace is None or file.startswith("<") else f" ({file}, line {trace.tb_lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{where}"

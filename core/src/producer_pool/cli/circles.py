"""Whether a daemon would forward to itself."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from producer_pool.contract.options import DELIVERY_NAMES
from producer_pool.model.endpoint import Endpoint, is_url
from producer_pool.model.errors import ConfigurationError, InvalidEndpoint
from producer_pool.model.redaction import redact

if TYPE_CHECKING:
    from producer_pool.discovery.config import Settings

__all__ = ["circles", "of_dead_letters"]

_HERE: Final = frozenset({"localhost", "127.0.0.1", "::1", "0.0.0.0", "::"})
_OF_PRODUCERS: Final = DELIVERY_NAMES | {"timeout"}


def circles(settings: Settings) -> Iterator[str]:
    """Yield a complaint for what leads to a listener of the same daemon: a producer, or dead letters."""
    listeners = {place: one for one in settings.listeners if (place := _place(one.url))}
    for producer in settings.producers:
        if (place := _place(producer.url)) in listeners:
            yield (
                f"{producer.origin}: {producer.shown} is where this daemon listens itself "
                f"({listeners[place].origin}): each message would come back to it, for ever; "
                "forward to another address, or listen at another one"
            )

    for origin, url in of_dead_letters(settings):
        with suppress(ConfigurationError):  # What is no URL is told of where it is used.
            if (place := _place(url)) in listeners:
                yield (
                    f"{origin}: {redact(url)} is where this daemon listens itself "
                    f"({listeners[place].origin}): each dead letter would come back as a message, and end as "
                    "another dead letter; send them to another address, or keep them in a folder"
                )


def of_dead_letters(settings: Settings) -> Iterator[tuple[str, str]]:
    """Yield where dead letters are sent to, each with where that is said."""
    if settings.dead_letters is not None and is_url(settings.dead_letters):
        yield settings.origins["dead-letters"], settings.dead_letters
    for producer in settings.producers:
        own = Endpoint.parse(producer.url).options.get("dead-letters", "")
        if is_url(own):
            yield f"{producer.origin}: dead-letters", own


def _place(url: str) -> tuple[str, str, int, str] | None:
    """
    Return what tells one listener from another; None: that cannot be known.

    With options, two URLs may well name one server and mean two things there, such as two queues.
    """
    endpoint = Endpoint.parse(url)
    path = endpoint.path.rstrip("/")
    if not endpoint.options.keys() <= _OF_PRODUCERS:
        return None
    try:
        host, port = endpoint.host, endpoint.port
    except InvalidEndpoint:
        return (endpoint.scheme, "", 0, path) if path else None
    return (endpoint.scheme, "" if host in _HERE else host, port, path) if port else None

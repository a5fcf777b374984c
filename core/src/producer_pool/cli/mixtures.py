"""Whether messages and JSON would both come out of the standard output."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from producer_pool.cli.circles import of_dead_letters
from producer_pool.model.redaction import redact

if TYPE_CHECKING:
    from producer_pool.discovery.config import Settings

__all__ = ["is_stdout", "mixture", "mixtures"]


def mixtures(settings: Settings) -> Iterator[str]:
    """Yield a complaint for what goes to where a daemon writes JSON: a producer, or dead letters."""
    if not settings.json:
        return
    json = settings.origins["json"]
    for producer in settings.producers:
        if is_stdout(producer.url):
            yield f"{producer.origin}: {mixture(producer.shown, json)}"
    for origin, url in of_dead_letters(settings):
        if is_stdout(url):
            yield f"{origin}: {mixture(redact(url), json)}"


def is_stdout(url: str) -> bool:
    """Whether what is sent to *url* comes out of the standard output."""
    return url.partition(":")[0].lower() == "stdout"


def mixture(shown: str, json: str) -> str:
    """Say that messages cannot go to *shown*, since *json* asks for JSON there."""
    return (
        f"{shown} is where JSON is written, too ({json}): nobody could tell it from messages; send to "
        "another address, or write no JSON"
    )

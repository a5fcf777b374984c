"""Whether quotas in a spool mean anything."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import format_size, parse_size

if TYPE_CHECKING:
    from producer_pool.discovery.config import Settings

__all__ = ["quotas"]

log = logging.getLogger(__name__)


def quotas(settings: Settings) -> Iterator[str]:
    """Yield a complaint for each quota in a spool that there is not; warn of one that is too large."""
    for producer in settings.producers:
        asked = Endpoint.parse(producer.url).options.get("spool-quota")
        if asked is None:
            continue
        if settings.spool is None:
            if "spool" not in settings.origins:  # Otherwise it is named already.
                yield (
                    f"{producer.origin}: {producer.id}: spool-quota= needs a spool: add --spool DIR, or "
                    "leave it out"
                )
            continue
        with suppress(ConfigurationError):  # What is no size is told of where it is used.
            if parse_size(asked) > settings.spool.size:
                log.warning(
                    "%s: spool-quota=%s is more than the whole spool may take: spool-size=%s counts",
                    producer.id,
                    asked,
                    format_size(settings.spool.size),
                )

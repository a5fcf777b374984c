"""What a transport declares, as `plugins show` and `plugins check` say it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from producer_pool.discovery.registry import Loaded

__all__ = ["declared", "lines"]


def declared(scheme: str, loaded: Loaded) -> dict[str, dict[str, Any]]:
    """Return where the transport of *scheme* comes from, and what it guarantees, as plain values."""
    transport, provided = loaded.transport, loaded.provided
    return {
        "plugin": {
            "scheme": scheme,
            "distribution": provided.distribution,
            "version": provided.version,
            "module": provided.value,
            "location": provided.location,
            "api": transport.api,
        },
        "guarantees": {
            "sends": transport.client is not None,
            "listens": transport.listener is not None,
            "acks": [ack.label for ack in sorted(transport.acks)],
            "ordered": transport.ordered,
            "binary_safe": transport.binary_safe,
            "max_message": transport.max_message,
            "loopback": transport.loopback,
        },
    }


def lines(described: dict[str, dict[str, Any]]) -> list[str]:
    """Return the same as lines for people."""
    values = {**described["plugin"], **described["guarantees"]}
    return [f"{name.replace('_', ' '):13} {_word(value)}" for name, value in values.items()]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list):
        return ", ".join(value)
    return "-" if value in (None, "") else str(value)

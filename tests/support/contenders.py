"""The daemon and its control in the same role: a relay that a fault story can be told about."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from support.naive_relay import NaiveRelay, naive_relay
from support.processes import Daemon, daemon

__all__ = ["CONTROLS", "QUICK", "Relay", "counted", "finish", "relay"]

Relay = Daemon | NaiveRelay

CONTROLS: Final = ("naive", "resend")
"""The naive relay as it is, and one that sends the message again whose send raised."""

QUICK: Final = "retry-backoff=5ms&retry-max-backoff=20ms"
"""For URLs: a consumer that comes back is found soon."""


@contextmanager
def relay(kind: str, *urls: str, user_timeout: float = 0) -> Iterator[Relay]:
    """
    Run the *product*, or one of CONTROLS, with a consumer at each URL. Options there are for the product.

    With *user_timeout*, the control asks its kernel for that; the product's URL says it itself.
    """
    if kind == "product":
        targets = [part for number, url in enumerate(urls) for part in ("--to", f"c{number}={url}")]
        with daemon(*targets) as running:
            yield running
    else:
        plain = [url.partition("?")[0] for url in urls]
        with naive_relay(*plain, resend=kind == "resend", user_timeout=user_timeout) as control:
            yield control


def finish(running: Relay) -> None:
    """Have it deliver all that it took, and end. Whoever sent to it has closed."""
    if isinstance(running, Daemon):
        assert running.terminate() == 0, running.said
    else:
        running.finish()


def counted(running: Relay, number: int = 0) -> dict[str, Any]:
    """Return what the ended daemon counted for one consumer; a control counts nothing."""
    found: dict[str, Any] = running.last["consumers"][f"c{number}"] if isinstance(running, Daemon) else {}
    return found

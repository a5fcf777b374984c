"""What a bench is asked to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from producer_pool.cli.benching.book import WRITE, Book, Shape
from producer_pool.cli.benching.elsewhere import Elsewhere
from producer_pool.cli.benching.ways import Way
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.text import format_count

__all__ = ["RATE", "Load", "Plan"]

RATE: Final = 10_000.0
"""Messages a second, where nobody says how many."""
_TOGETHER: Final = 64
"""Datagrams that are sent at once, where nobody says how many, and as far as they may be under way."""
_LARGEST: Final = 64 * 1024 * 1024
"""Bytes that one message of each producer may have together."""


@dataclass(frozen=True)
class Load:
    """How messages are sent: *unit* in a write, flat out or so many a second."""

    unit: int
    rate: float | None

    @property
    def name(self) -> str:
        """What it is called."""
        return "flat out" if self.rate is None else f"at {self.rate:,.6g}/s"


@dataclass(frozen=True)
class Plan:
    """All of it."""

    ways: tuple[Way | Elsewhere, ...]
    """One, or two that are compared; a daemon that runs elsewhere is one of its own."""
    into: Way | None
    """How the load sends to the relay, if not in the same way."""
    shape: Shape
    consumers: int
    loads: tuple[Load, ...]
    seconds: float
    plugins: tuple[Path, ...] = ()
    spool: Path | None = None
    spool_sync: str | None = None

    @classmethod
    def made(
        cls,
        ways: Sequence[Way | Elsewhere],
        into: Way | None,
        *,
        size: int,
        parties: tuple[int, int],
        batch: int | None,
        rates: Sequence[float | None],
        seconds: float,
        plugins: Sequence[Path] = (),
        spool: tuple[Path, str | None] | None = None,
    ) -> Plan:
        """
        Make a plan, with what is left open; *parties* are how many producers and consumers there are.

        Raises:
            ConfigurationError: messages of that size cannot be measured.
        """
        producers, consumers = parties
        everything = [end for one in _present(ways, into) for end in one.ends]
        for scheme, transport in everything:
            longest = transport.max_message
            if longest is not None and size > longest:
                raise ConfigurationError(f"{scheme} carries messages of {longest:,} bytes at the most")
        if size * producers > _LARGEST:
            raise ConfigurationError(
                f"{format_count(producers, 'producer')}, messages of {size:,} bytes: one of each is more "
                f"than {_LARGEST:,} bytes together; take fewer producers, or smaller messages"
            )
        ordered = all(transport.ordered for _, transport in everything)
        if batch is None:
            most = WRITE // (size + 1) if ordered else min(_TOGETHER, _most_at_once(size, producers) // 2)
            whole, single = max(1, most), 1
        else:
            whole = single = batch
        shape = Shape(size, producers, whole)
        window = shape.window(ordered=ordered)
        if whole > window:
            raise ConfigurationError(
                f"{', '.join(scheme for scheme, _ in everything)}: of what nobody holds back, "
                f"{format_count(window, 'message')} of each producer may be under way, or some find no room; "
                f"--batch takes that many at the most"
            )
        Book(shape)  # Whether a number has room, it knows.
        loads = tuple([Load(whole if rate is None else single, rate) for rate in rates])
        folder, sync = spool or (None, None)
        return cls(tuple(ways), into, shape, consumers, loads, seconds, tuple(plugins), folder, sync)

    @property
    def ordered(self) -> bool:
        """Whether messages have to arrive in order."""
        return all(end.ordered for one in _present(self.ways, self.into) for _, end in one.ends)

    @property
    def window(self) -> int:
        """Messages of a producer that may be under way."""
        return self.shape.window(ordered=self.ordered)


def _present(ways: Sequence[Way | Elsewhere], into: Way | None) -> list[Way | Elsewhere]:
    return [*ways, *([into] if into is not None else [])]


def _most_at_once(size: int, producers: int) -> int:
    return Shape(size, producers, 1).window(ordered=False)

"""What a fault proxy can do to the bytes of one direction, and what it counts."""

from __future__ import annotations

from dataclasses import dataclass, fields

from producer_pool.model.errors import UsageError

__all__ = ["Faults", "Traffic"]


@dataclass(frozen=True, slots=True)
class Faults:
    """What happens to the bytes of one direction of a FaultProxy. Made without arguments: nothing."""

    delay: float = 0.0
    """Seconds that bytes stay in the proxy."""
    jitter: float = 0.0
    """Seconds: so much longer at most, drawn from the proxy's seed. Bytes keep their order."""
    bandwidth: float | None = None
    """Bytes a second, for each connection."""
    slice: int | None = None
    """Bytes of the pieces in which they are written; with `bandwidth`, there is time between them."""
    reset_after: int | None = None
    """Each connection is reset as soon as it has passed on so many bytes more."""
    stalled: bool = False
    """Nothing is read: the sender's kernel takes what its buffers hold, and no more."""
    black_hole: bool = False
    """All is read and nothing passed on, nor the end of a stream: the sender's kernel sees no fault."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("delay", "jitter") and not value >= 0:
                raise UsageError(f"Faults: {field.name} is at least 0, not {value!r}")
            if field.name in ("bandwidth", "slice", "reset_after") and not (value is None or value > 0):
                raise UsageError(f"Faults: {field.name} is above 0, or None, not {value!r}")


class Traffic:
    """Counters of one direction, which can be read from any thread."""

    def __init__(self) -> None:
        self.passed = 0
        """Bytes that were passed on."""
        self.swallowed = 0
        """Bytes that were read, and thrown away."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} passed={self.passed} swallowed={self.swallowed}>"

"""What plugins add to a pool besides protocols, behind one typed face; without plugins: nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from producer_pool.contract.ports import Observer, Stage

if TYPE_CHECKING:
    from producer_pool.model.endpoint import Endpoint

__all__ = ["Wiring"]


class Wiring:
    """Wires nothing. The registry has one that asks the plugins' hooks."""

    def stages(self, producer_id: str, endpoint: Endpoint | None) -> Sequence[Stage]:
        """Return what stands before this producer, in order; *endpoint* is None for an injected client."""
        return ()

    def observers(self, pool: Any) -> Sequence[Observer]:
        """Return who wants to be told what happens in *pool*."""
        return ()

    def started(self, pool: Any) -> None:
        """Tell that *pool* runs."""

    def stopping(self, pool: Any, deadline: float) -> None:
        """Tell that *pool* stops, and has *deadline* seconds for what is queued."""

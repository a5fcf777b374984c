"""Why there is no room for what is stored for one producer, and whether its sources have to wait for that."""
# Rule: nothing here drops or refuses anything. It says why, and has sources wait where that is the policy.

from __future__ import annotations

from collections.abc import Callable

from producer_pool.delivery.producer import Producer
from producer_pool.model.policies import Overflow
from producer_pool.model.text import format_size

__all__ = ["Pressure"]


class Pressure:
    """
    What presses one lane: its quota in the store, the size of the store as a whole, or memory.

    *blocked* is called with the reason when a source has to wait, and with "" when it need not any more.
    """

    def __init__(self, producer: Producer, blocked: Callable[[Producer, str], None]) -> None:
        self._producer = producer
        self._policy = producer.policy
        self._blocked = blocked
        self.crowding = False
        """Whether the store as a whole is too large, and this backlog is the largest."""
        self.excess = 0
        """Bytes to skip for that reason."""
        self._over_quota = self._memory_full = self._blocks = self._over = False

    def give_way(self, nbytes: int) -> bool:
        """Note by how much the store is too large; return whether something follows from that."""
        was = self.crowding
        self.crowding = nbytes > 0
        self.excess = nbytes
        return self.crowding or was

    def skipped(self, nbytes: int) -> None:
        """Note that so much less lies in the store."""
        self.excess = max(self.excess - nbytes, 0)

    def fill_quota(self, size: int) -> None:
        """Have sources wait if the policy says so: *size* bytes would lie in the store."""
        self._over_quota = self._over_quota or size > self._policy.spool_quota
        self._tell()

    def fill_memory(self) -> None:
        """Have sources wait: memory is full."""
        self._memory_full = True
        self._tell()

    def ease(self, *, size: int, memory: int) -> None:
        """Let sources go on where half of it is free: *size* bytes in the store, *memory* in memory."""
        if size <= self._policy.spool_quota // 2:
            self._over_quota = False
        if memory <= self._policy.buffer // 2:
            self._memory_full = False
        self._tell()

    def end(self) -> None:
        """Have nobody wait any more: the lane takes nothing new."""
        self._over = True
        self._tell()

    def _tell(self) -> None:
        """Say whether sources have to wait, if that is another answer than the last one."""
        crowding = self.crowding and self._policy.overflow is Overflow.BLOCK
        yes = (self._over_quota or self._memory_full or crowding) and not self._over
        if yes is not self._blocks:
            self._blocks = yes
            why = self.memory_is_full() if self._memory_full else self.store_is_full()
            self._blocked(self._producer, why if yes else "")

    # -- in words ----------------------------------------------------------------------------------

    def store_is_full(self) -> str:
        """Say so, and which settings decide that."""
        if self.crowding:
            return "the spool is full, and its backlog is the largest (spool-size=, overflow=)"
        quota = format_size(self._policy.spool_quota)
        return f"its quota of {quota} in the spool is full (spool-quota=, overflow=)"

    def memory_is_full(self) -> str:
        """Say so of what could not be stored."""
        buffer = format_size(self._policy.buffer)
        return f"nothing can be stored, and its buffer of {buffer} is full (buffer=, overflow=)"

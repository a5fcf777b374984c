"""``memory:NAME``: keeps messages where the program itself can read them, within bounds."""
# Rule: what is kept is read, and made room for, from any thread; clients are driven on their loops.

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from producer_pool.contract.options import Size, option
from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.amounts import check_numbers
from producer_pool.model.batch import Batch

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "MemoryClient", "MemoryOptions"]

MAX_MESSAGES: Final = 100_000
MAX_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True)
class MemoryOptions:
    """What a ``memory:`` URL may say."""

    max_messages: int = option(MAX_MESSAGES, "messages that are kept; more have to wait until there is room")
    max_bytes: Size = option(MAX_BYTES, "bytes that are kept; more have to wait until there is room")


class _Place:
    """The messages under one name, whoever put them there."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.messages: list[bytes] = []
        self.nbytes = 0
        self.waiting: list[MemoryClient] = []


_places: Final[dict[str, _Place]] = {}
_places_lock: Final = threading.Lock()


class MemoryClient(PipelinedClient):
    """
    Puts messages into the program's own memory, under a name.

    ::

        pool.add_producer("audit", "memory:audit")
        pool.forward_to_all("hello")
        assert MemoryClient.named("audit").messages == (b"hello",)

    What is delivered stays there until clear() or take(): the names and their messages belong to the
    process. It is bounded: where *max_messages* or *max_bytes* would be exceeded, it takes nothing more
    until there is room, as a consumer that does not read.
    """

    protocol_name = "memory"

    def __init__(self, name: str, *, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        check_numbers(max_messages=max_messages, max_bytes=max_bytes)
        self.address = f"memory:{name}"
        self.max_message = max_bytes
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        with _places_lock:
            self._place = _places.setdefault(name, _Place())
        self._signals: ClientSignals | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._count = 0
        self._tail: Sequence[bytes] = ()
        """The rest of the one batch for which there was no room."""

    @classmethod
    def named(cls, name: str) -> MemoryClient:
        """Return a client of this name, to read what others put there; it may come before them."""
        return cls(name)

    # -- reading, from any thread --------------------------------------------------------------

    @property
    def messages(self) -> tuple[bytes, ...]:
        """All that is there, in the order in which it came."""
        with self._place.lock:
            return tuple(self._place.messages)

    def take(self) -> tuple[bytes, ...]:
        """Return all that is there, and make room."""
        place = self._place
        with place.lock:
            taken = tuple(place.messages)
            place.messages.clear()
            place.nbytes = 0
            waiting, place.waiting = place.waiting, []
        for client in waiting:
            client._wake()
        return taken

    def clear(self) -> None:
        """Forget all that is there, and make room."""
        self.take()

    # -- writing, on a loop --------------------------------------------------------------------

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._count = 0
        self._tail = ()

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = 0
        while taken < len(batches) and not self._tail:
            messages = batches[taken].messages
            self._tail = self._store(messages[offset:] if offset else messages)
            offset = 0
            taken += 1
        return taken

    def _store(self, messages: Sequence[bytes]) -> Sequence[bytes]:
        """Put *messages* there as far as there is room, and return the rest."""
        place, nbytes = self._place, sum(map(len, messages))
        count = len(messages)
        with place.lock:
            if len(place.messages) + count > self._max_messages or place.nbytes + nbytes > self._max_bytes:
                count, nbytes = self._room(messages)
                place.waiting.append(self)
            place.messages += messages[:count]
            place.nbytes += nbytes
        self._count += count
        return messages[count:]

    def _room(self, messages: Sequence[bytes]) -> tuple[int, int]:
        """Return for how many of *messages* there is room, and their bytes. With the lock held."""
        free = self._max_messages - len(self._place.messages)
        nbytes = count = 0
        for message in messages[: max(free, 0)]:
            if self._place.nbytes + nbytes + len(message) > self._max_bytes:
                break
            nbytes += len(message)
            count += 1
        return count, nbytes

    def settled(self) -> Settled:
        return Settled(self._count, self._count)

    async def aclose(self) -> None:
        self._loop = None
        self._tail = ()
        with self._place.lock, suppress(ValueError):
            self._place.waiting.remove(self)

    def _wake(self) -> None:
        """Say on the loop that there is room."""
        loop = self._loop
        if loop is not None:
            with suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._go_on)

    def _go_on(self) -> None:
        if self._loop is not None and self._signals is not None:
            self._tail = self._store(self._tail)
            self._signals.writable()

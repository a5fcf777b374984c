"""The other side in a trial: what shows which messages arrive, and misbehaves when it is told to."""

from __future__ import annotations

import asyncio
import threading
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from producer_pool.contract.ports import IntakeReceipt, Listener
from producer_pool.contract.receipts import OwnReceipt
from producer_pool.model.batch import Batch

if TYPE_CHECKING:
    from producer_pool.testing.trial import Trial

__all__ = ["HeldReceipt", "ListenerConsumer", "TrialConsumer"]


class TrialConsumer(ABC):
    """
    A consumer of the protocol on trial.

    Transports without a listener bring their own: a small server of their protocol, on the running loop.
    """

    url: str
    """Where a client reaches it, once it is started; without options that are not needed for that."""
    received: list[bytes]
    """The messages that arrived, in their order; crash() does not clear it."""

    @abstractmethod
    async def start(self) -> None:
        """Be reachable at `url`; called again after crash(), then at the same one."""

    @abstractmethod
    def pause(self) -> None:
        """Read nothing more from any connection, and keep them open."""

    @abstractmethod
    def resume(self) -> None:
        """Go on reading."""

    @abstractmethod
    async def crash(self) -> None:
        """Break all connections, and be unreachable from now on. What was not read is lost."""

    @property
    def connections(self) -> int:
        """Connections that are open now, as far as it knows."""
        return 0

    @property
    def comes(self) -> bool:
        """Whether it connects to the client by itself, again and again, which listens at `url` then."""
        return False

    async def aclose(self) -> None:
        """End in any state. May be called twice."""
        await self.crash()


class ListenerConsumer(TrialConsumer):
    """The transport's own listener, poured into a list."""

    def __init__(self, trial: Trial, **options: str) -> None:
        """Make one; its URL gets *options* besides those that all listeners of the trial get."""
        self.received = []
        self.batches: list[Batch] = []
        """The same as it came, with its origin."""
        self.receipts: list[HeldReceipt] = []
        """Those of batches that its listener wants to acknowledge, once it holds them: see hold()."""
        self.astray = False
        """Whether it was fed from another thread than that of the loop."""
        self.url = ""
        self._trial = trial
        self._options = options
        self._place = trial.another_place()
        self._listener: Listener | None = None
        self._intake = _Kept(self)

    @property
    def listener(self) -> Listener:
        """The listener; only between start() and crash()."""
        assert self._listener is not None
        return self._listener

    @property
    def connections(self) -> int:
        return 0 if self._listener is None else self._listener.stats.connections

    async def start(self) -> None:
        listener = self._listener = self._trial.listener(self._place, **self._options)
        async with self._trial.patience("start() of the listener returns"):
            endpoint = await listener.start(self._intake)
        self._place = self.url = endpoint.without(endpoint.options).raw

    def pause(self) -> None:
        self._intake.paused = True

    def resume(self) -> None:
        self._intake.paused = False
        self._intake.going.set()
        self._intake.going = asyncio.Event()

    def hold(self) -> None:
        """Let what becomes of each batch stay open, until the rule says so with its receipt."""
        self._intake.holds = True

    async def crash(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            await self._trial.within("aclose() of the listener returns", listener.aclose())


class _Kept:
    """An intake that keeps what it gets; paused when its consumer is."""

    def __init__(self, consumer: ListenerConsumer) -> None:
        self._consumer = consumer
        self._thread = threading.get_ident()
        self.paused = False
        self.going = asyncio.Event()
        self.holds = False

    def feed(self, batch: Batch) -> None:
        self._consumer.batches.append(batch)
        self._consumer.received += batch.messages
        self._consumer.astray |= threading.get_ident() != self._thread

    def accept(self, batch: Batch) -> IntakeReceipt:
        self.feed(batch)
        if not self.holds:
            receipt = OwnReceipt()
            receipt.finish()
            return receipt
        self._consumer.receipts.append(HeldReceipt(len(batch)))
        return self._consumer.receipts[-1]

    async def resumed(self) -> None:
        if self.paused:
            await self.going.wait()


class HeldReceipt(OwnReceipt):
    """The receipt of a batch of which a rule says what becomes of it."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count
        """Its messages."""

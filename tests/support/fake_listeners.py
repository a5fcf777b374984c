"""A listener without a network, and a factory that hands it out."""

from collections.abc import Awaitable, Callable
from typing import Any

from producer_pool.contract.ports import Intake, Listener
from producer_pool.contract.wiring import Wiring
from producer_pool.model.batch import Batch
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.stats import ListenerStats

__all__ = ["FakeListener", "ListenerFactory"]


class FakeListener(Listener):
    """A listener into which a test says what arrives. It looks at `paused` as a real one does."""

    def __init__(self) -> None:
        self.stats = ListenerStats()
        self.calls: list[str] = []
        self.faults: dict[str, BaseException | Callable[[], Awaitable[None]]] = {}
        self.arrived: list[Batch] = []
        """What drain() reads."""
        self.intake: Intake
        self.receipts: list[Any] = []

    async def _call(self, name: str) -> None:
        self.calls.append(name)
        fault = self.faults.get(name)
        if isinstance(fault, BaseException):
            raise fault
        if fault is not None:
            await fault()

    async def start(self, intake: Intake) -> Endpoint:
        await self._call("start")
        self.intake = intake
        return Endpoint.parse("fake://127.0.0.1:1")

    async def stop_accepting(self) -> None:
        await self._call("stop_accepting")

    async def drain(self) -> None:
        await self._call("drain")
        for batch in self.arrived:
            self.intake.feed(batch)

    async def aclose(self) -> None:
        await self._call("aclose")


class ListenerFactory:
    """As much of a factory as a server asks for."""

    def __init__(self, listener: Listener) -> None:
        self._listener = listener

    def listener(self, url: str) -> Listener:
        return self._listener

    def wiring(self) -> Wiring:
        return Wiring()

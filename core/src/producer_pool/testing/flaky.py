"""Clients for tests of programs that embed a pool: what their consumer does stands in a script."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

from producer_pool.contract.ports import Client, ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError, UsageError
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DEFAULT_TIMEOUT
from producer_pool.testing.steps import (
    Deliver,
    Fail,
    HalfOpen,
    Hang,
    Refuse,
    Reject,
    Script,
    Slow,
    Step,
)

__all__ = ["FlakyClient", "FlakyEvent", "FlakyPipelinedClient"]

E = TypeVar("E", bound=BaseException)

BUFFER: Final = 64 * 1024
"""Bytes that a FlakyPipelinedClient has on their way at most, as a kernel's buffers."""


class FlakyEvent(NamedTuple):
    """Something that happened to a flaky client."""

    at: float
    """When, by the clock of its loop."""
    what: str
    """
    ``connected``, ``refused``, ``hung``, ``closed``; or of one message: ``arrived``, ``rejected``,
    ``failed``, ``swallowed`` by a half-open connection, ``lost`` as the consumer had gone.
    """
    message: bytes | None = None
    """The message that it happened to; None: it was about a connection."""


class _Flaky(Client):
    """What both kinds share: the script, connecting, and the record."""

    protocol_name = "flaky"

    def __init__(
        self, script: Iterable[Step] = (), *, address: str = "flaky", timeout: float = DEFAULT_TIMEOUT
    ) -> None:
        """
        Make a client whose consumer follows *script*, and delivers when that is over.

        The script may be an endless iterator, such as ``itertools.cycle([Deliver(9), Fail()])``.

        Raises:
            UsageError: something in it is no step.
        """
        self.address = address
        self.timeout = timeout
        self.history: list[FlakyEvent] = []
        """All that happened, in its order."""
        self._script = Script(script)
        self._attempted: list[bytes] = []
        self._arrived: list[bytes] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        """That of the connection, while there is one."""

    # -- reading, from any thread ------------------------------------------------------------------

    @property
    def messages(self) -> tuple[bytes, ...]:
        """What arrived, in the order in which it did; twice, what arrived twice."""
        return tuple(self._arrived)

    @property
    def attempted(self) -> tuple[bytes, ...]:
        """What was handed to the client, in that order; each attempt counts."""
        return tuple(self._attempted)

    @property
    def connects(self) -> int:
        """How often connect() was called."""
        return sum(event.what in ("connected", "refused", "hung") for event in list(self.history))

    # -- on a loop ---------------------------------------------------------------------------------

    async def connect(self) -> None:
        if self._loop is not None:
            raise UsageError(f"{self.address}: connected twice; aclose() comes between")
        loop = asyncio.get_running_loop()
        step = self._script.at_connect(loop.time())
        if step is None:
            self._loop = loop
            self._note("connected", loop=loop)
        elif isinstance(step, Hang):
            self._note("hung", loop=loop)
            await loop.create_future()
        else:
            self._note("refused", loop=loop)
            error = step.error if isinstance(step, Refuse) else None
            raise _fresh(error) or ConnectError(f"{self.address}: connection refused")

    async def aclose(self) -> None:
        if self._loop is not None:
            self._note("closed")
            self._loop = None

    def _note(
        self, what: str, message: bytes | None = None, *, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        loop = loop or self._connected()
        self.history.append(FlakyEvent(loop.time(), what, message))
        if what == "arrived":
            assert message is not None
            self._arrived.append(message)

    def _connected(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            raise UsageError(f"{self.address}: not connected; connect() comes first")
        return self._loop

    def _failed(self, step: Step, message: bytes) -> BaseException:
        """Note that *message* broke the connection, and return what with."""
        if not isinstance(step, Fail):
            self._note("lost", message)
            return SendError(f"{self.address}: the connection is lost")
        if step.arrives:
            self._note("arrived", message)
        self._note("failed", message)
        return _fresh(step.error) or SendError(f"{self.address}: connection reset")

    def _rejected(self, step: Reject, message: bytes) -> Rejected:
        self._note("rejected", message)
        return _fresh(step.error) or Rejected(f"{self.address}: the consumer refuses this message")


class FlakyClient(_Flaky):
    """
    A client whose consumer does what a script says, and that remembers what arrived.

    ::

        client = FlakyClient([Refuse(2), Deliver(10), Fail(), Away(60), Slow(0.2, 5), Reject()])
        pool.add_producer("audit", client)

    Steps about messages are done for one message after the other; those about connections, for calls
    of connect(). If the client is connected when such a step's turn comes, the next message finds the
    connection lost. When the script is over, messages arrive.

    It takes one message at a time, as a Client with a ``send()`` does; FlakyPipelinedClient has many on
    their way. Compare `messages`, which is what arrived, with the results of the pool. It works on real
    loops and on virtual time, in every kind of pool, and alone.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        address: str = "flaky",
        timeout: float = DEFAULT_TIMEOUT,
        ack: Ack = Ack.WRITTEN,
    ) -> None:
        """Make a client as above; *ack* is the level that a message has reached when it arrived."""
        super().__init__(script, address=address, timeout=timeout)
        self.ack = ack

    async def send(self, message: bytes) -> None:
        loop = self._connected()
        self._attempted.append(message)
        step = self._script.at_message(loop.time())
        match step:
            case Deliver():
                self._note("arrived", message)
            case Slow(seconds):
                await asyncio.sleep(seconds)
                self._note("arrived", message)
            case Reject():
                raise self._rejected(step, message)
            case HalfOpen(arrives):
                if arrives:
                    self._note("arrived", message)
                self._note("swallowed", message)
                await loop.create_future()
            case _:
                raise self._failed(step, message)


class FlakyPipelinedClient(_Flaky, PipelinedClient):
    """
    The same with many messages on their way at once, as over a socket: it stands in for a ``tcp://`` URL.

    It reaches WRITTEN and KERNEL. Both are reached when a message arrives, except on a HalfOpen
    connection: there messages are written and not confirmed, as when a network is cut. So those of a
    producer that asks for WRITTEN count as delivered and are lost, and those of one that asks for more
    are sent again. What was on its way when a connection is lost has not arrived.
    """

    def __init__(
        self,
        script: Iterable[Step] = (),
        *,
        address: str = "flaky",
        timeout: float = DEFAULT_TIMEOUT,
        buffer: int = BUFFER,
    ) -> None:
        """Make a client as above, which takes no batch while *buffer* bytes or more are on their way."""
        super().__init__(script, address=address, timeout=timeout)
        self._buffer = buffer
        self._signals: ClientSignals | None = None
        self._way: deque[bytes] = deque()
        """What is on its way: taken, and not confirmed."""
        self._bytes = 0
        self._confirmed = 0
        self._half_open: HalfOpen | None = None
        self._next: asyncio.Handle | None = None

    @property
    def acks(self) -> frozenset[Ack]:
        return frozenset({Ack.WRITTEN, Ack.KERNEL})

    def attach(self, signals: ClientSignals) -> None:
        self._signals = signals

    async def connect(self) -> None:
        await super().connect()
        self._confirmed = 0

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        loop = self._connected()
        taken = 0
        while taken < len(batches) and self._bytes < self._buffer:
            for message in batches[taken].messages[offset:]:
                self._attempted.append(message)
                self._way.append(message)
                self._bytes += len(message)
                if self._half_open is not None:
                    self._swallow(self._half_open, message)
            offset = 0
            taken += 1
        if taken and self._next is None and self._half_open is None:
            self._next = loop.call_soon(self._go_on)
        return taken

    def settled(self) -> Settled:
        written = self._confirmed + (len(self._way) if self._half_open is not None else 0)
        return Settled(written, self._confirmed)

    async def aclose(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._way.clear()
        self._bytes = 0
        self._half_open = None
        await super().aclose()

    # -- the consumer ------------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Let the consumer take what is on its way, as far as the script says."""
        self._next = None
        loop, signals = self._connected(), self._signals
        assert signals is not None
        while self._way:
            step = self._script.at_message(loop.time())
            message = self._way[0]
            match step:
                case Deliver():
                    self._arrive()
                case Slow(seconds):
                    self._next = loop.call_later(seconds, self._arrive_late)
                    break
                case Reject():
                    error = self._rejected(step, message)
                    signals.rejected(self._confirmed, error)
                    self._confirm()
                case HalfOpen():
                    self._half_open = step
                    for message in self._way:
                        self._swallow(step, message)
                    break
                case _:
                    signals.broken(_as_send_error(self._failed(step, message)))
                    return
        signals.writable()

    def _arrive_late(self) -> None:
        self._arrive()
        self._go_on()

    def _arrive(self) -> None:
        self._note("arrived", self._way[0])
        self._confirm()

    def _confirm(self) -> None:
        self._bytes -= len(self._way.popleft())
        self._confirmed += 1

    def _swallow(self, step: HalfOpen, message: bytes) -> None:
        if step.arrives:
            self._note("arrived", message)
        self._note("swallowed", message)


def _fresh(error: E | None) -> E | None:
    """Return *error* for one raise more, none of which makes its traceback longer."""
    return None if error is None else error.with_traceback(None)


def _as_send_error(error: BaseException) -> DeliveryError:
    """Return *error* as one of ours: a signal carries no others."""
    if isinstance(error, DeliveryError):
        return error
    failure = SendError(f"{type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure

"""How a listener acknowledges to those who send: after what, in which order, and how much may be owed."""
# Rule: it decides what is answered, and when; the listener alone touches sockets.

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import Final, Protocol

from producer_pool.contract.ports import Intake, IntakeReceipt
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConfigurationError
from producer_pool.model.framing import Framing
from producer_pool.toolkit.acknowledging.answers import answer
from producer_pool.toolkit.streams.connection import AckAfter, Connection, StreamListenerOptions

__all__ = ["Acknowledging", "Debtor", "Silence", "acknowledging"]

WINDOW: Final = 4 * 1024 * 1024
"""Bytes, counted as every buffer counts them, that a connection may have brought and we not answered."""
BEAT: Final = 2.0
"""Seconds after which what was answered last is said again while something is owed: it tells that we live."""


class Debtor(Protocol):
    """What is asked of the listener."""

    def everybody(self) -> Sequence[Connection]:
        """Return the connections now."""

    def tell(self, connection: Connection, data: bytes) -> bool:
        """Send *data* on a connection; False: it is gone, though what it sent may not be read yet."""

    def listen_to(self, connection: Connection, yes: bool) -> None:
        """Read from a connection, or leave waiting what comes."""

    def discharge(self, connection: Connection, fault: str) -> None:
        """Close a connection: nothing is owed to it, or nothing more can be given, because of a *fault*."""


class _Taken:
    """A batch that was passed on and is not answered."""

    __slots__ = ("cost", "end", "receipt", "unstored")

    def __init__(self, receipt: IntakeReceipt, end: int, cost: int) -> None:
        self.receipt = receipt
        self.end = end
        """Messages of the connection up to here, with its own."""
        self.cost = cost
        self.unstored = False
        """Whether it is known that it will not be stored."""


class Debt:
    """What one connection has brought, and what is owed to it."""

    __slots__ = ("answered", "batches", "cost", "ended", "gone", "looks", "said", "taken")

    def __init__(self) -> None:
        self.taken = 0
        """Messages that it brought."""
        self.answered = 0
        """Those that may be acknowledged."""
        self.said = 0
        """Those that were."""
        self.batches: deque[_Taken] = deque()
        self.cost = 0
        """The sum over `batches`."""
        self.looks = False
        """Whether a look at what can be answered is due in this turn."""
        self.ended = False
        """Whether it has said all, and waits for the rest of its answers."""
        self.gone = False
        """Whether it can hear no answer any more."""

    @property
    def owes(self) -> bool:
        """Whether something was passed on and not answered, and can still be."""
        return bool(self.batches) or (self.said < self.answered and not self.gone)


class Silence:
    """What a listener has that acknowledges nothing; and what it calls."""

    def begin(self) -> None:
        """Be told that it listens."""

    def take(self, connection: Connection, batch: Batch) -> bool:
        """Pass on what *connection* brought, and answer it in time; False: this is left to the caller."""
        return False

    def flush(self, connection: Connection) -> bool:
        """Send the rest of an answer, and what there is to say after it; False: left to the caller."""
        return False

    def look_after(self, connection: Connection) -> None:
        """Serve one that is not listened to: it takes the rest of an answer, or it is gone."""

    def end(self, connection: Connection) -> bool:
        """Be told that *connection* has said all; False: nothing is owed to it, and it can be closed."""
        return False

    def forget(self, connection: Connection) -> None:
        """Be told that *connection* is closed."""

    def say(self, connection: Connection) -> None:
        """Answer what can be answered now."""

    def owes_to(self, connection: Connection) -> bool:
        """Whether *connection* may wait for us: it is not to blame for being quiet."""
        return False

    @property
    def owes(self) -> bool:
        """Whether anything was passed on and not answered, and can still be."""
        return False

    def hurry(self) -> None:
        """Let all that has arrived be read, however much is owed: it is the end, and no more will come."""

    async def settle(self) -> None:
        """Wait until nothing is owed. The caller bounds the time."""

    def close(self) -> None:
        """Say nothing more."""


def acknowledging(options: StreamListenerOptions, intake: Intake, debtor: Debtor, *, where: str) -> Silence:
    """
    Return what answers as the option ``ack-after`` says; *where* is what errors call the listener.

    Raises:
        ConfigurationError: this intake has nothing that could be answered after.
    """
    after = options.ack_after
    if after is None:
        return Silence()
    if after is AckAfter.STORED and not getattr(intake, "stores", False):
        raise ConfigurationError(
            f"{where}: ack-after=stored needs a spool to store in: add --spool DIR to the daemon, or spool= "
            "to the pool; or use ack-after=delivered"
        )
    return Acknowledging(after, options.framing, intake, debtor)


class Acknowledging(Silence):
    """
    Answers, on each connection of a listener, how many of its messages are acknowledged.

    In the order in which they came, and at most once in a turn of the loop. A connection to which more
    than a window is owed is not read from. One of whose messages something is not delivered is closed,
    because the next answer would count that one, too: so its sender keeps it, and sends it again.
    """

    def __init__(self, after: AckAfter, framing: Framing, intake: Intake, debtor: Debtor) -> None:
        self._after = after
        self._framing = framing
        self._intake = intake
        self._debtor = debtor
        self._loop = asyncio.get_running_loop()
        self._connections: dict[Connection, Debt] = {}
        self._moved = asyncio.Event()
        """Set when less is owed than before."""
        self._ending = False
        """Whether all that has arrived is read, however much is owed; and no more after that."""
        self._beat: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        self._beat = self._loop.call_later(BEAT, self._say_again)

    def close(self) -> None:
        if self._beat is not None:
            self._beat.cancel()
        self._connections.clear()

    # -- what comes --------------------------------------------------------------------------------

    def take(self, connection: Connection, batch: Batch) -> bool:
        debt = self._connections.get(connection)
        if debt is None:
            debt = self._connections[connection] = Debt()
        if debt.gone:
            return False
        debt.taken += len(batch)
        if self._after is AckAfter.RECEIVED:
            self._intake.feed(batch)
            debt.answered = debt.taken
            self._look_soon(connection, debt)
            return True
        taken = _Taken(self._intake.accept(batch), debt.taken, batch.cost)
        debt.batches.append(taken)
        debt.cost += taken.cost
        if len(debt.batches) == 1:
            self._watch(connection, debt, taken)
        if debt.cost > WINDOW and not (connection.deaf or self._ending):
            self._debtor.listen_to(connection, False)
        return True

    def owes_to(self, connection: Connection) -> bool:
        debt = self._connections.get(connection)
        return debt is not None and debt.owes

    @property
    def owes(self) -> bool:
        return any(debt.owes for debt in self._connections.values())

    def end(self, connection: Connection) -> bool:
        debt = self._connections.get(connection)
        if debt is None or not debt.owes:
            return False
        debt.ended = True
        self._debtor.listen_to(connection, False)
        self._look_soon(connection, debt)
        return True

    def flush(self, connection: Connection) -> bool:
        if self._debtor.tell(connection, b""):
            self.say(connection)
        else:
            self._mute(connection)
        return True

    def look_after(self, connection: Connection) -> None:
        if connection.unsent:
            self.flush(connection)
        else:
            self._mute(connection)

    def _mute(self, connection: Connection) -> None:
        """
        Say nothing more to *connection*, which is gone.

        What it sent before that is read, and counts: who does not listen may not have asked for answers.
        """
        debt = self._connections.setdefault(connection, Debt())
        debt.gone = True
        debt.batches.clear()
        self._moved.set()
        if debt.ended:
            self._debtor.discharge(connection, "")
        elif connection.deaf:
            self._debtor.listen_to(connection, True)

    def forget(self, connection: Connection) -> None:
        debt = self._connections.pop(connection, None)
        if debt is not None:
            debt.batches.clear()  # a receipt may call back as long as a message waits for its consumer
            self._moved.set()

    # -- answers -----------------------------------------------------------------------------------

    def _watch(self, connection: Connection, debt: Debt, first: _Taken) -> None:
        """See to it that there is a look when the oldest batch that is not answered may be."""
        if self._after is AckAfter.DELIVERED or first.unstored:
            first.receipt.when_done(partial(self._look_soon, connection, debt))
        else:
            first.receipt.when_stored(partial(self._known, connection, debt, first))

    def _known(self, connection: Connection, debt: Debt, taken: _Taken) -> None:
        # What could not be stored, as on a full disk, is acknowledged when it is delivered.
        taken.unstored = not taken.receipt.stored
        self._look_soon(connection, debt)

    def _look_soon(self, connection: Connection, debt: Debt) -> None:
        """Look at what can be answered, once in this turn of the loop."""
        if not debt.looks:
            debt.looks = True
            self._loop.call_soon(self._look, connection, debt)

    def _look(self, connection: Connection, debt: Debt) -> None:
        debt.looks = False
        if self._connections.get(connection) is not debt:
            return
        fault = self._settle(debt)
        self.say(connection)
        if fault or (debt.ended and not debt.owes):
            self._debtor.discharge(connection, fault)
            return
        if debt.batches:
            self._watch(connection, debt, debt.batches[0])
        if debt.ended or debt.gone:
            return
        if connection.deaf and debt.cost <= WINDOW // 2 and not self._ending:
            self._debtor.listen_to(connection, True)

    def _settle(self, debt: Debt) -> str:
        """Let go of what can be answered now, oldest first; return why the next one never can, or nothing."""
        batches = debt.batches
        while batches:
            first = batches[0]
            if not self._may_be_answered(first):
                if not first.receipt.done or first.receipt.delivered or self._is_open(first):
                    break
                return (
                    f"of {first.end - debt.answered:,} messages, some were not delivered to a producer that "
                    "is required; their sender keeps them; see dead-letters= and role= of that producer"
                )
            batches.popleft()
            debt.cost -= first.cost
            debt.answered = first.end
            self._moved.set()
        return ""

    def _may_be_answered(self, taken: _Taken) -> bool:
        receipt = taken.receipt
        if self._after is AckAfter.STORED and not taken.unstored:
            return receipt.stored is True
        return receipt.done and receipt.delivered

    def _is_open(self, taken: _Taken) -> bool:
        """Whether it may still be stored, whatever was delivered."""
        return self._after is AckAfter.STORED and not taken.unstored

    def say(self, connection: Connection, *, again: bool = False) -> None:
        debt = self._connections.get(connection)
        # One answer that has not gone out is enough: the next one says all that it says.
        if debt is None or debt.gone or connection.unsent or (debt.said == debt.answered and not again):
            return
        debt.said = debt.answered
        self._moved.set()
        if not self._debtor.tell(connection, answer(debt.answered, self._framing)):
            self._mute(connection)

    def _say_again(self) -> None:
        """Tell those to whom something is owed, or who may not send on, that we are there."""
        if self._intake.paused:
            # What they sent lies in our kernel. Should they give up, they would send it again.
            for connection in self._debtor.everybody():
                if connection.established:
                    self._connections.setdefault(connection, Debt())
                    self.say(connection, again=True)
        else:
            for connection, debt in list(self._connections.items()):
                if debt.batches:
                    self.say(connection, again=True)
        self._beat = self._loop.call_later(BEAT, self._say_again)

    # -- the end -----------------------------------------------------------------------------------

    def hurry(self) -> None:
        self._ending = True
        for connection, debt in list(self._connections.items()):
            if connection.deaf and not debt.ended:
                self._debtor.listen_to(connection, True)

    async def settle(self) -> None:
        while self.owes:
            self._moved.clear()
            await self._moved.wait()

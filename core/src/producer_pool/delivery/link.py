"""One connection of a pipelined client: what goes out, what has been settled, when it is given up."""
# The Client counts, the Outbox keeps, the Link carries the counts across.
# Rule: a client's code may raise, lie, and call back in. It can end its own connection, and nothing else.

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Final

from producer_pool.contract.ports import PipelinedClient
from producer_pool.contract.stream import Stream
from producer_pool.delivery.containment import address_of, as_delivery_error, let_interrupts_pass
from producer_pool.delivery.entry import Entry
from producer_pool.delivery.health import STALLED_AFTER
from producer_pool.delivery.outbox import Outbox
from producer_pool.delivery.page import Page
from producer_pool.model.batch import Batch
from producer_pool.model.errors import DeliveryError, Rejected, SendError
from producer_pool.model.loglimit import LogLimit
from producer_pool.model.outcomes import Ack
from producer_pool.model.text import format_duration

__all__ = ["Link"]

log = logging.getLogger(__name__)

TURN: Final = 1024 * 1024
"""Bytes that one producer writes before it lets others have the loop."""

FIRST_POLL: Final = 0.001
LAST_POLL: Final = 0.050
"""Seconds between two looks at what has been acknowledged, which is no event: doubling from the first."""

ASK_EARLY: Final = 768 * 1024
"""
Bytes sent after which acknowledgements are looked at before the timer does. It bounds memory; and what is
let go of soon is still in the cache of the CPU when the next batch is put there.
"""
ASK_COST: Final = 48 * 1024
"""What a batch counts beside its own bytes."""


class Link:
    """
    Drives a PipelinedClient for as long as one connection lasts.

    It is the client's signals. Before serve() and after close() it is dead: what a connection has to
    say while it is made, or once it is over, reaches nobody.
    """

    def __init__(
        self,
        client: PipelinedClient,
        outbox: Outbox,
        *,
        ack: Ack,
        careful: bool = False,
        on_stall: Callable[[str], None] = lambda why: None,
    ) -> None:
        """
        Make the link for one connection. *careful*: send one message, and the rest when it has arrived.

        *on_stall* is told why nothing moves, and, with an empty text, that it moves again.
        """
        self.producer_id = outbox.producer_id
        self.ack = ack
        self._confirms = ack > Ack.WRITTEN
        self.probing = careful
        """Whether the one message has not arrived yet."""
        self._on_stall = on_stall
        self._client = client
        self._outbox = outbox
        self._loop = asyncio.get_running_loop()
        self._timeout = client.timeout
        self._lost: asyncio.Future[DeliveryError] = self._loop.create_future()
        self._serving = False
        self._open = False
        """Whether the client may take more."""
        self._refused = False
        """Whether the client took nothing when it was last asked."""
        self._asking = False
        """Whether the client's own code runs just now."""
        self._settled = 0
        """Messages that the outbox has been told of."""
        self._unasked = 0
        """Bytes sent since the last look at what was settled, and ASK_COST for each batch."""
        self._progress_at = 0.0
        self._stalls = False
        """Whether on_stall was told so."""
        self._poll = FIRST_POLL
        self._timer: asyncio.TimerHandle | None = None
        self._next_turn: asyncio.Handle | None = None
        self._stream: Stream | None = None
        self.leave: Callable[[], None] | None = None
        """While it is in a convoy: what ends that."""
        self._limit = LogLimit()

    async def serve(self) -> DeliveryError:
        """Send what waits and what comes, until the connection is lost; return why it was."""
        self._serving = True
        try:
            stream = self._client.stream()
        except BaseException as error:
            self.fault("stream", error)
        else:
            # A client of others may have something else of that name.
            self._stream = stream if isinstance(stream, Stream) else None
        self.writable()
        return await asyncio.shield(self._lost)

    def close(self) -> None:
        """Tell the outbox what was settled to the last, and be dead from now on."""
        if self._serving:
            self.harvest()
        self._serving = self._open = False
        self._disarm()
        if self._next_turn is not None:
            self._next_turn.cancel()
        if not self._lost.done():
            self._lost.cancel()

    # -- signals -----------------------------------------------------------------------------------

    def writable(self) -> None:
        """Go on: the client takes more, or has got further."""
        if self._asking:
            self._loop.call_soon(self.writable)
        elif self._serving and not self._lost.done():
            if self._outbox.flying:
                self.harvest()
            # Not open while it probes: so there is nothing to look at on the fast path.
            self._open = not self.probing
            self.pump()

    def broken(self, error: DeliveryError) -> None:
        """Stop: the connection is gone."""
        self._open = False
        if self.leave is not None:
            self.leave()
        if not self._lost.done():
            self._lost.set_result(as_delivery_error(error, SendError, f"{self._name()}: broken by"))

    def rejected(self, number: int, error: Rejected, count: int = 1) -> None:
        """Settle a message as refused, or several."""
        if self._asking:
            self._loop.call_soon(self.rejected, number, error, count)
            return
        if not self._serving or self._lost.done():
            return
        if self.leave is not None:
            self.leave()
        try:
            in_time = self._outbox.reject(
                number, as_delivery_error(error, Rejected, f"{self._name()}: refused with"), count
            )
        except (IndexError, TypeError) as fault:
            self._lie(f"rejected a message that it was not given: {fault}")
            return
        if not in_time and self._limit.allow("late", self._loop.time()) is not None:
            log.warning("%s: message refused after it was settled: %s", self._name(), error)

    # -- sending -----------------------------------------------------------------------------------

    def pump(self) -> None:
        """Hand over what waits, as much as the client takes and as one turn allows."""
        outbox = self._outbox
        if self.probing:
            self._probe()
            return
        if not self._open or self._asking or not outbox.waiting:
            return
        if not outbox.flying and not self._refused:
            self._progress_at = self._loop.time()
            self._poll = FIRST_POLL
        sent = 0
        while self._open and outbox.waiting:
            taken = self._hand_over(outbox.leading(TURN - sent))
            if taken is None:
                return
            if not taken:
                self._open = False
                break
            size = outbox.launch(taken)
            self._unasked += size + taken * ASK_COST
            sent += size
            if sent >= TURN and self._open:
                self._open = False
                self._next_turn = self._loop.call_soon(self.writable)
        self._follow_up()

    def _hand_over(self, entries: Sequence[Entry]) -> int | None:
        """Offer *entries* to the client, and return how many it took; None: that was its end."""
        self._asking = True
        try:
            taken = self._client.start([entry.batch for entry in entries], entries[0].start)
            lied = type(taken) is not int or not 0 <= taken <= len(entries)
        except BaseException as error:
            self.fault("start", error)
            return None
        finally:
            self._asking = False
        if lied:
            self._lie(f"took {taken} of {len(entries)} batches")
            return None
        if not taken:
            self._refused = True
        elif self._refused:
            self._refused = False
            self._progress_at = self._loop.time()
            self._disarm()
            if self._stalls:
                self._goes_on()
        return taken

    def _probe(self) -> None:
        """Hand over the oldest message alone, unless that was done."""
        outbox = self._outbox
        if not self._serving or self._lost.done() or self._asking or outbox.flying or not outbox.waiting:
            return
        outbox.isolate()
        if not self._refused:
            self._progress_at = self._loop.time()
            self._poll = FIRST_POLL
        if self._hand_over((outbox.waiting[0],)):
            outbox.launch(1)
        self._follow_up()

    def express(self, batch: Batch) -> int | None:
        """
        Hand over a batch that nothing waits before; return how many messages that settled at once.

        The outbox does not hear of it: pass_through() follows; or with 0, of a batch in flight, flies().
        None: it was not taken, and has to wait; or some of it the client can never carry.
        """
        outbox = self._outbox
        client = self._client
        count = batch.count
        if not count or not self._open or self._asking or outbox.waiting or not outbox.fits(batch):
            return None
        reached = -1
        call = "misfits"
        self._asking = True
        try:
            # Whatever is unusual here is looked at again, and dealt with, on the long way.
            if client.misfits(batch):
                return None
            call = "start"
            if client.start((batch,), 0) != 1:
                return None
            if not self._confirms:
                call = "settled"
                reached = client.settled().written
        except BaseException as error:
            if call == "misfits":
                let_interrupts_pass(error)
                return None
            self.fault(call, error)
            if call == "start":
                return None
        finally:
            self._asking = False
        if reached == self._settled + count and not outbox.flying and batch.kept is None:
            self._settled = reached
            return count
        return 0

    def flies(self, page: Page, batch: Batch, now: float) -> None:
        """Have the outbox keep a batch that express() handed over, and see to it that it is asked after."""
        outbox = self._outbox
        if not outbox.flying:
            self._progress_at = now
            self._poll = FIRST_POLL
        outbox.take_off(page, batch, now)
        self._unasked += batch.cost + ASK_COST
        if self._timer is None or self._unasked > ASK_EARLY or not self._confirms:
            self._follow_up()

    def stream(self) -> Stream | None:
        """Return what can be sent on past the outbox, if that is empty and nothing is unusual."""
        outbox = self._outbox
        if not self._open or self._asking or self._stalls or outbox.flying or outbox.waiting:
            return None
        return self._stream

    def passes(self, count: int) -> None:
        """Be told that *count* messages were sent on its stream and are settled; the client is told, too."""
        self._settled += count
        self._outbox.pass_through(count)

    def _follow_up(self) -> None:
        """See to it that what was handed over is asked after, now or soon."""
        if self._outbox.flying and (not self._confirms or self._unasked > ASK_EARLY):
            self.harvest(batches=self._confirms)
        if self._timer is None and self._outstanding():
            self._arm()

    def harvest(self, *, batches: bool = False) -> bool:
        """
        Tell the outbox what has been settled since the last time, and say whether there was anything.

        *batches*: what is settled of a batch that is not through may be left for the next time.
        """
        if self._asking or not self._serving:
            return False
        if self.leave is not None:
            self.leave()
        self._unasked = 0
        self._asking = True
        try:
            client = self._client
            settled = client.settled_batches() if batches else client.settled()
            reached = settled.confirmed if self._confirms else settled.written
            count = reached - self._settled
            lied = count > self._outbox.in_flight() or type(reached) is not int
        except BaseException as error:
            self.fault("settled", error)
            return False
        finally:
            self._asking = False
        if lied:
            self._lie(f"settled {reached} messages, and was given {self._settled + self._outbox.in_flight()}")
            return False
        if count <= 0:
            return False
        self._settled = reached
        self._progress_at = self._loop.time()
        if self._stalls:
            self._goes_on()
        self._outbox.settle(count)
        if self.probing:
            self.probing = False
            self._loop.call_soon(self.writable)
        return True

    def _outstanding(self) -> bool:
        """Whether the client owes something: what it took, or to take more."""
        return bool(self._outbox.flying) or (self._refused and bool(self._outbox.waiting))

    def _arm(self) -> None:
        """Look again: soon if acknowledgements are awaited, else when there should have been progress."""
        delay = self._patience()
        if not self._stalls:
            delay -= self._timeout * (1 - STALLED_AFTER)
        if self._confirms and self._outbox.flying:
            delay = min(delay, self._poll)
        self._timer = self._loop.call_later(max(delay, 0.0), self._look)

    def _patience(self) -> float:
        """Return for how many seconds there need be no progress."""
        return self._progress_at + self._timeout - self._loop.time()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        if self._lost.done():
            return
        if self._outbox.flying and self.harvest():
            self._poll = max(FIRST_POLL * 4, self._poll / 2)
        else:
            self._poll = min(self._poll * 2, LAST_POLL)
        if self._lost.done() or not self._outstanding():
            return
        if self._patience() <= (0 if self._stalls else self._timeout * (1 - STALLED_AFTER)):
            self._stalled()
        if not self._lost.done():
            self._arm()

    def _stalled(self) -> None:
        """Say that nothing moved for long, or give up the connection, unless its consumer shows life."""
        try:
            heard = self._client.heard_at()
            if heard is not None:
                self._progress_at = min(max(self._progress_at, heard), self._loop.time())
            left = self._patience()
            if left > self._timeout * (1 - STALLED_AFTER):
                if self._stalls:
                    self._goes_on()
                return
            why = self._client.why_stalled()
        except BaseException as error:
            self.fault("heard_at", error)
            return
        timeout = format_duration(self._timeout)
        if left > 0:
            self._stalls = True
            waited = format_duration(self._timeout * STALLED_AFTER)
            self._on_stall(f"{why}: nothing moved for {waited} of its timeout of {timeout}")
            return
        arrived = "; what was in flight may have arrived" if self._outbox.flying else ""
        self.broken(SendError(f"{self._name()}: {why}: nothing moved for {timeout} (timeout=){arrived}"))

    def _goes_on(self) -> None:
        self._stalls = False
        self._on_stall("")

    # -- a client that does not do as it should -------------------------------------------------------

    def fault(self, call: str, error: BaseException) -> None:
        """Treat an exception out of the client's own code as the end of this connection, interrupts too."""
        self.broken(as_delivery_error(error, SendError, f"{self._name()}: {call}() raised"))
        let_interrupts_pass(error)

    def _lie(self, what: str) -> None:
        """Treat what cannot be true as the end of this connection: its counts are worth nothing."""
        self.broken(SendError(f"{self._name()}: fault in the client: it {what}"))

    def _name(self) -> str:
        return address_of(self._client, self.producer_id)

"""A pipelined client without a Producer: it connects, waits, and closes itself."""

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any

import pytest

from producer_pool.contract.ports import ClientSignals, PipelinedClient, Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import ConnectError, DeliveryError, Rejected, SendError
from producer_pool.model.framing import LINES
from producer_pool.model.outcomes import Ack
from producer_pool.testing import in_virtual_time


class Fake(PipelinedClient):
    """A client that does what the test says: it takes *room* batches, and *writes* them by itself."""

    protocol_name = "fake"
    address = "fake:"

    def __init__(self, *, ack: Ack = Ack.WRITTEN, room: int = 100, writes: bool = True) -> None:
        self.ack = ack
        self.timeout = 60.0
        self.room = room
        self.writes = writes
        self.calls: list[str] = []
        self.taken: list[bytes] = []
        """Messages since connect(), in order."""
        self.progress = Settled(0, 0)
        self.connecting: asyncio.Event | None = None
        self.refusal: Exception | None = None
        self.unfit: Mapping[bytes, Rejected] = {}
        self._signals: ClientSignals | None = None

    @property
    def signals(self) -> ClientSignals:
        assert self._signals is not None
        return self._signals

    def misfits(self, batch: Batch) -> Mapping[int, Rejected]:
        return {i: self.unfit[message] for i, message in enumerate(batch.messages) if message in self.unfit}

    def attach(self, signals: ClientSignals) -> None:
        self.calls.append("attach")
        self._signals = signals

    async def connect(self) -> None:
        assert self.calls[-1] == "attach"
        self.calls.append("connect")
        self.taken, self.progress = [], Settled(0, 0)
        if self.connecting is not None:
            await self.connecting.wait()
        if self.refusal is not None:
            raise self.refusal

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = batches[: self.room]
        self.room -= len(taken)
        for batch in taken:
            self.taken += batch.wire(LINES, offset).splitlines()
        if self.writes:
            self.settle(len(self.taken))
        return len(taken)

    def settle(self, written: int, confirmed: int | None = None) -> None:
        self.progress = Settled(written, written if confirmed is None else confirmed)

    def settled(self) -> Settled:
        return self.progress

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.calls.append("aclose")


async def turns() -> None:
    """Let every task go as far as it goes by itself."""
    for _ in range(10):
        await asyncio.sleep(0)


async def started(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Return *work* as a task that has gone as far as it goes by itself."""
    task = asyncio.create_task(work)
    await turns()
    return task


async def test_send_connects_when_it_is_needed() -> None:
    """The first send connects, the next ones use that connection, and closing ends it."""
    client = Fake()
    await client.send(b"one")
    await client.send_batch(Batch.of(["two", "three", "four"]), 1)
    await client.send_batch(Batch.of(["x"]), 1)
    await client.send_batch(Batch.of([]))

    assert client.taken == [b"one", b"three", b"four"]
    assert client.calls == ["aclose", "attach", "connect"]


async def test_context_manager_connects() -> None:
    """Entering attaches and connects; sending uses this connection."""
    async with Fake() as client:
        assert client.calls == ["aclose", "attach", "connect"]
        await client.send(b"one")

    assert client.taken == [b"one"]
    assert client.calls == ["aclose", "attach", "connect", "aclose"]


async def test_context_manager_connects_again() -> None:
    """Each use of it is a connection of its own: what the last one left is not taken for one."""
    client = Fake()
    for message in (b"one", b"two"):
        async with client:
            await client.send(message)

            assert client.taken == [message]


async def test_send_after_a_close_connects_again() -> None:
    """Whoever closes it may use it again: what is closed is not taken for a connection."""
    client = Fake()
    for message in (b"one", b"two"):
        await client.send(message)
        await client.aclose()

        assert client.taken == [message]
        assert client.calls[-1] == "aclose"


async def test_client_is_told_what_to_confirm() -> None:
    """The signals ask for the level that the client promises."""
    client = Fake(ack=Ack.KERNEL)
    await client.send(b"one")

    assert client.signals.ack is Ack.KERNEL


async def test_send_waits_until_it_is_written() -> None:
    """A message that the kernel has not taken wholly has not been sent."""
    client = Fake(writes=False)
    sending = await started(client.send_batch(Batch.of(["one", "two"])))
    client.settle(1)
    client.signals.writable()
    await turns()
    assert not sending.done()
    client.settle(2, confirmed=0)
    client.signals.writable()
    await sending

    assert client.taken == [b"one", b"two"]


async def test_send_waits_until_it_is_confirmed() -> None:
    """At a higher level, written is not enough; no signal has to tell that it was confirmed."""
    client = Fake(ack=Ack.KERNEL, writes=False)
    sending = await started(client.send(b"one"))
    client.settle(1, confirmed=0)
    client.signals.writable()
    await turns()
    assert not sending.done()
    client.settle(1, confirmed=1)

    await sending


async def test_client_that_takes_nothing_now() -> None:
    """start() is asked again after writable()."""
    client = Fake(room=0)
    sending = await started(client.send(b"one"))
    assert client.taken == []
    client.room = 1
    client.signals.writable()
    await sending

    assert client.taken == [b"one"]


async def test_connection_is_refused() -> None:
    """The error comes through; the next send tries again, and does not believe itself connected."""
    client = Fake()
    client.refusal = ConnectError("refused")
    for _ in range(2):
        with pytest.raises(ConnectError, match="refused"):
            await client.send(b"one")
    client.refusal = None
    await client.send(b"two")

    assert client.taken == [b"two"]
    assert client.calls == ["aclose", "attach", "connect", "aclose"] * 2 + ["aclose", "attach", "connect"]


@in_virtual_time
async def test_connecting_takes_too_long() -> None:
    """It ends within the timeout, as an error that says that nothing can have arrived."""
    client = Fake()
    client.timeout = 0.01
    client.connecting = asyncio.Event()
    with pytest.raises(ConnectError) as raised:
        await client.send(b"one")

    assert str(raised.value) == "fake:: no connection within 10ms"
    assert client.calls[-1] == "aclose"


@pytest.mark.parametrize(
    "room,written,ack,index,text",
    [
        (
            0,
            0,
            Ack.WRITTEN,
            0,
            "the consumer did not take it within 10ms; it reads too slowly, or not at all",
        ),
        (
            1,
            2,
            Ack.WRITTEN,
            2,
            "the consumer did not take it within 10ms; it reads too slowly, or not at all",
        ),
        (1, 2, Ack.KERNEL, 0, "the consumer did not take it within 10ms; it reads too slowly, or not at all"),
        (1, 3, Ack.KERNEL, 0, "written, but not acknowledged within 10ms (ack=kernel)"),
    ],
)
@in_virtual_time
async def test_sending_takes_too_long(room: int, written: int, ack: Ack, index: int, text: str) -> None:
    """It ends within the timeout; the error says what was waited for, and how many reached the level."""
    client = Fake(room=room, writes=False, ack=ack)
    client.timeout = 0.01
    sending = await started(client.send_batch(Batch.of(["a", "b", "c"])))
    client.settle(written, confirmed=0)
    with pytest.raises(SendError) as raised:
        await sending

    assert str(raised.value) == f"fake:: {text}"
    assert raised.value.index == index
    assert client.calls[-1] == "aclose"


@in_virtual_time
async def test_timeout_covers_connecting_and_sending() -> None:
    """One attempt is both: what connecting used up is not there for sending."""
    client = Fake(room=0)
    client.timeout = 0.2
    client.connecting = asyncio.Event()
    loop = asyncio.get_running_loop()
    begin = loop.time()
    loop.call_later(0.15, client.connecting.set)
    with pytest.raises(SendError, match="within 200ms"):
        await client.send(b"one")

    assert loop.time() - begin == pytest.approx(0.2)


async def test_connection_breaks_while_sending() -> None:
    """The error comes through with the number of messages before it; the next send connects anew."""
    client = Fake(writes=False)
    sending = await started(client.send_batch(Batch.of(["a", "b", "c", "d"]), 1))
    client.settle(2)
    client.signals.broken(SendError("reset"))
    with pytest.raises(SendError, match="reset") as raised:
        await sending
    client.writes = True
    await client.send(b"e")

    assert raised.value.index == 3
    assert client.taken == [b"e"]
    assert client.calls == ["aclose", "attach", "connect", "aclose", "aclose", "attach", "connect"]


async def test_index_counts_from_the_batch_and_not_from_the_connection() -> None:
    """What went out before on the same connection does not count."""
    client = Fake()
    await client.send_batch(Batch.of(["a", "b", "c"]))
    client.writes = False
    sending = await started(client.send_batch(Batch.of(["d", "e"])))
    client.settle(4)
    client.signals.broken(SendError("reset"))
    with pytest.raises(SendError) as raised:
        await sending

    assert raised.value.index == 1


async def test_connection_breaks_while_nothing_is_sent() -> None:
    """The next send makes a new one, and nobody hears of it."""
    client = Fake()
    await client.send(b"one")
    client.signals.broken(SendError("gone"))
    await client.send(b"two")

    assert client.taken == [b"two"]
    assert client.calls == ["aclose", "attach", "connect"] * 2


async def test_consumer_rejects_a_message() -> None:
    """All before it are delivered, then the error says which one it was."""
    client = Fake(writes=False)
    sending = await started(client.send_batch(Batch.of(["a", "b", "c"])))
    client.signals.rejected(1, Rejected("too old"))
    await turns()
    assert not sending.done()
    client.settle(1)
    client.signals.writable()
    with pytest.raises(Rejected, match="too old") as raised:
        await sending

    assert raised.value.index == 1
    assert client.calls[-1] == "aclose"


async def test_consumer_rejects_the_last_message() -> None:
    """A rejected message counts as settled, and is no delivered one for that."""
    client = Fake(writes=False)
    sending = await started(client.send(b"a"))
    client.settle(1)
    client.signals.rejected(0, Rejected("no"))
    with pytest.raises(Rejected) as raised:
        await sending

    assert raised.value.index == 0


async def test_connection_outlives_a_rejection() -> None:
    """Where nothing is in flight any more, the next message goes out on it; a late word is for nobody."""
    client = Fake(writes=False)
    sending = await started(client.send_batch(Batch.of(["a", "b", "c"])))
    client.signals.rejected(0, Rejected("nobody is there"), 3)
    client.settle(3)
    with pytest.raises(Rejected, match="nobody") as raised:
        await sending
    sending = await started(client.send(b"d"))
    client.signals.rejected(2, Rejected("late"))
    client.settle(4)
    client.signals.writable()
    await sending

    assert raised.value.index == 0
    assert client.taken == [b"a", b"b", b"c", b"d"]
    assert client.calls == ["aclose", "attach", "connect"]


async def test_misfit_in_the_middle() -> None:
    """What stands before it is delivered first, so that the index is true; it is not, nor what follows."""
    client = Fake()
    client.unfit = {b"b\nb": Rejected("two lines")}
    with pytest.raises(Rejected, match="two lines") as raised:
        await client.send_batch(Batch.of(["x", "a", "b\nb", "c"]), 1)

    assert raised.value.index == 2
    assert client.taken == [b"a"]


async def test_misfit_before_the_start() -> None:
    """It is nobody's business any more."""
    client = Fake()
    client.unfit = {b"b\nb": Rejected("two lines")}
    await client.send_batch(Batch.of(["b\nb", "c", "d"]), 2)

    assert client.taken == [b"d"]


async def test_misfit_at_the_start() -> None:
    """Nothing is sent, and nothing is connected for it."""
    client = Fake()
    client.unfit = {b"b\nb": Rejected("two lines")}
    with pytest.raises(Rejected) as raised:
        await client.send(b"b\nb")

    assert raised.value.index == 0
    assert client.calls == []


async def test_connection_breaks_before_a_misfit() -> None:
    """The index is that of the message which did not get through, counted in the whole batch."""
    client = Fake(writes=False)
    client.unfit = {b"b\nb": Rejected("two lines")}
    sending = await started(client.send_batch(Batch.of(["x", "y", "z", "b\nb"]), 1))
    client.settle(1)
    client.signals.broken(SendError("reset"))
    with pytest.raises(DeliveryError, match="reset") as raised:
        await sending

    assert raised.value.index == 2


async def test_send_is_cancelled() -> None:
    """The connection is closed: half a message may lie on it."""
    client = Fake(room=0)
    sending = await started(client.send(b"one"))
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    client.room = 1
    await client.send(b"two")

    assert client.taken == [b"two"]
    assert client.calls == ["aclose", "attach", "connect", "aclose", "aclose", "attach", "connect"]

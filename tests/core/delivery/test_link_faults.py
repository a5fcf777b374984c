"""Clients that do not do as they should: they end their own connection, and nothing else."""

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from producer_pool.contract.ports import Settled
from producer_pool.model.batch import Batch
from producer_pool.model.errors import Rejected, SendError
from producer_pool.model.outcomes import Ack
from producer_pool.testing import in_virtual_time
from support.fake_clients import FakePipelinedClient
from support.lines import line

MiB = 1024 * 1024


class Faulty(FakePipelinedClient):
    """A client of which one call is replaced by what a test says."""

    def __init__(self, *, start: Any = None, settled: Any = None) -> None:
        super().__init__()
        self.replaced_start = start
        self.replaced_settled = settled

    def start(self, batches: Sequence[Batch], offset: int = 0) -> int:
        taken = super().start(batches, offset)
        return self.replaced_start(self, taken) if self.replaced_start else taken

    def settled(self) -> Settled:
        return self.replaced_settled(self) if self.replaced_settled else super().settled()


def raises(error: BaseException) -> Any:
    def call(*_: object) -> None:
        raise error

    return call


ODD = [
    ValueError("odd"),
    SystemExit(3),
    asyncio.CancelledError("out of nowhere"),
    SendError("one of ours"),
    BaseExceptionGroup("two", [SystemExit(1), ValueError("b")]),
]


@pytest.mark.parametrize("error", ODD, ids=repr)
@pytest.mark.parametrize("call", ["start", "settled"])
@in_virtual_time
async def test_call_raises(error: BaseException, call: str) -> None:
    """The connection ends with that error, and whoever sent the message notices nothing."""
    async with line(Faulty(**{call: raises(error)})) as it:
        it.send(b"a")
        lost = await it.lost

        assert lost is error or lost.__cause__ is error
        assert it.outbox.stats.pending == it.outbox.pending() == 1


@pytest.mark.parametrize("answer", [2, -1, None, 1.0, "1", 10**9])
@in_virtual_time
async def test_start_answers_nonsense(answer: Any) -> None:
    """The connection ends; no batch counts as handed over that was not."""
    async with line(Faulty(start=lambda *_: answer)) as it:
        it.send(b"a")
        it.send(b"b")
        lost = await it.lost

        assert isinstance(lost, SendError)
        assert it.outbox.pending() == 2


@pytest.mark.parametrize("written", [2, 10**9, 1.0, None, "1"])
@in_virtual_time
async def test_settled_answers_nonsense(written: Any) -> None:
    """The connection ends, and nothing counts as delivered."""
    async with line(Faulty(settled=lambda _: Settled(written, written))) as it:
        it.send(b"a")
        lost = await it.lost

        assert isinstance(lost, SendError)
        assert it.delivered == 0


@pytest.mark.parametrize("answer", [None, (1,), 7])
@in_virtual_time
async def test_settled_answers_something_else(answer: Any) -> None:
    """The connection ends, and nothing counts as delivered."""
    async with line(Faulty(settled=lambda _: answer)) as it:
        it.send(b"a")
        lost = await it.lost

        assert isinstance(lost, SendError)
        assert it.delivered == 0


@pytest.mark.parametrize("call", ["heard_at", "why_stalled"])
@in_virtual_time
async def test_raises_when_it_is_asked_about_a_stall(call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The connection ends all the same."""
    client = FakePipelinedClient(confirms_after=10**6)
    monkeypatch.setattr(client, call, raises(ValueError("odd")))
    async with line(client, ack=Ack.KERNEL) as it:
        it.send(b"a")
        lost = await it.lost

        assert isinstance(lost.__cause__, ValueError)


@in_virtual_time
async def test_settled_goes_back() -> None:
    """A count never goes back: it is as if nothing more had been settled."""
    client = FakePipelinedClient()
    async with line(client) as it:
        it.send(b"a", b"b")
        client.written = 0
        it.send(b"c")
        client.written = None
        it.link.writable()

        assert it.delivered == 3


@pytest.mark.parametrize("number", [1, 5, -1, None, "x"])
@in_virtual_time
async def test_rejects_what_it_was_not_given(number: Any) -> None:
    """The connection ends: its counts are worth nothing."""
    async with line(ack=Ack.KERNEL, client=FakePipelinedClient(confirms_after=9)) as it:
        it.send(b"a")
        it.link.rejected(number, Rejected("no"))

        assert "was not given" in str(await it.lost)
        assert it.outbox.stats.failed == 0


@in_virtual_time
async def test_rejects_what_was_settled(caplog: pytest.LogCaptureFixture) -> None:
    """Too late to count, but it is said, and the connection goes on."""
    async with line() as it:
        it.send(b"a")
        it.link.rejected(0, Rejected("no"))
        it.send(b"b")

        assert it.delivered == 2
        assert "refused after it was settled" in caplog.text


@in_virtual_time
async def test_rejects_one_of_a_batch() -> None:
    """Only that one fails."""
    async with line(ack=Ack.KERNEL, client=FakePipelinedClient(confirms_after=0.1)) as it:
        page = it.send(b"a", b"b", b"c")
        it.link.rejected(1, Rejected("no b"))
        await asyncio.sleep(0.3)

        assert [page.results(index)["audit"].ok for index in range(3)] == [True, False, True]


@in_virtual_time
async def test_rejects_several_at_once() -> None:
    """All of them fail, of whichever batches they are, and the others are delivered."""
    async with line(ack=Ack.KERNEL, client=FakePipelinedClient(confirms_after=0.1)) as it:
        pages = [it.send(b"a", b"b"), it.send(b"c", b"d")]
        it.link.rejected(1, Rejected("nobody is there"), 2)
        await asyncio.sleep(0.3)

        results = [page.results(index)["audit"].ok for page in pages for index in range(2)]
        assert results == [True, False, False, True]
        assert it.outbox.stats.failed == 2


@in_virtual_time
async def test_signals_with_what_are_no_errors_of_ours() -> None:
    """They are made into some."""
    async with line(ack=Ack.KERNEL, client=FakePipelinedClient(confirms_after=9)) as it:
        page = it.send(b"a")
        it.link.rejected(0, cast(Any, "nope"))
        it.link.broken(cast(Any, OSError("reset")))

        assert isinstance(page.results(0)["audit"].error, Rejected)
        assert isinstance(await it.lost, SendError)


def calls(signal: str, *arguments: object) -> Any:
    """Call a signal inside a call, which a client must not do."""

    def call(client: FakePipelinedClient, taken: int = 0) -> object:
        getattr(client.signals[-1], signal)(*arguments)
        return taken if taken else FakePipelinedClient.settled(client)

    return call


@pytest.mark.parametrize("call", ["start", "settled"])
@in_virtual_time
async def test_signals_from_inside(call: str) -> None:
    """They are heard a moment later: every message goes out once."""
    async with line(Faulty(**{call: calls("writable")}), before=[b"a", b"b"]) as it:
        it.send(b"c")
        await asyncio.sleep(0.1)

        assert it.client.messages == [b"a", b"b", b"c"]
        assert it.delivered == 3


@in_virtual_time
async def test_broken_from_inside() -> None:
    """Nothing more is handed over."""
    client = Faulty(start=calls("broken", SendError("gone")))
    async with line(client, before=[b"x" * MiB, b"b"]) as it:
        await it.lost

        assert len(client.messages) == 1
        assert (it.delivered, it.outbox.pending()) == (1, 1)


@in_virtual_time
async def test_address_that_raises() -> None:
    """The errors name the producer instead."""

    class Nameless(FakePipelinedClient):
        @property
        def address(self) -> str:
            raise RuntimeError("no name")

        @address.setter
        def address(self, value: str) -> None:
            pass

    async with line(Nameless()) as it:
        it.send(b"a")
        it.link.rejected(7, Rejected("no"))

        assert str(await it.lost).startswith("audit: fault in the client")

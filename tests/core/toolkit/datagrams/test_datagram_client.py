"""The datagram client: what it sends, in how many calls, and what keeps its place when there is no room."""

from __future__ import annotations

import errno
import random
import select
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from producer_pool.model.batch import Batch
from producer_pool.model.errors import InvalidOption
from producer_pool.model.framing import LINES
from support.datagrams import Mailbox, Sending, SpyDialer, UnixDialer, nobody, udp
from support.streams import until


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as made:
        yield made


@pytest.fixture
async def sending(mailbox: Mailbox) -> AsyncIterator[Sending]:
    async with Sending(udp(mailbox.endpoint)) as made:
        yield made


@pytest.fixture
def spy(mailbox: Mailbox) -> Iterator[SpyDialer]:
    made = SpyDialer(mailbox.endpoint)
    yield made
    made.close()


@pytest.fixture
def unix(tmp_path: Path) -> Iterator[Mailbox]:
    """Return a consumer whose senders have to wait when ten or so messages are unread."""
    with Mailbox(path=tmp_path / "box") as made:
        yield made


# -- sending ---------------------------------------------------------------------------------------


async def test_message_is_a_datagram(sending: Sending, mailbox: Mailbox) -> None:
    """Each arrives alone and as it was, empty ones and NUL bytes included; written at once."""
    messages = [b"one", b"", b"\0\xff\n", b"x" * 65_507, b"two", b""]
    assert sending.start([Batch.of(messages)]) == 1
    assert sending.client.settled() == (6, 6)
    await until(lambda: len(mailbox.read()) == 6)

    assert mailbox.letters == messages
    assert sending.signals.writes == 0


async def test_messages_before_the_offset_are_skipped(sending: Sending, mailbox: Mailbox) -> None:
    """A batch that was partly settled on an earlier connection goes on where it was."""
    batches = [Batch.of([b"one", b"two", b"three"]), Batch.of([]), Batch.of([b"four"])]
    assert sending.start(batches, 2) == 3
    assert sending.client.settled().written == 2
    sending.start([Batch.of([b"five", b"six"])], 1)
    assert sending.client.settled().written == 3
    await until(lambda: len(mailbox.read()) == 3)

    assert mailbox.letters == [b"three", b"four", b"six"]


async def test_batch_that_came_as_lines(sending: Sending, mailbox: Mailbox) -> None:
    """Whatever marked messages off on their way in, they go out without it."""
    sending.start([Batch.from_wire(b"one\n\nthree\n", LINES)])
    await until(lambda: len(mailbox.read()) == 3)

    assert mailbox.letters == [b"one", b"", b"three"]


# -- many by one call ------------------------------------------------------------------------------


async def test_equal_messages_go_out_together(spy: SpyDialer, mailbox: Mailbox) -> None:
    """128 by one call at the most, from several batches, too; they arrive as 200 messages."""
    messages = [b"%06d" % number for number in range(200)]
    async with Sending(spy) as sending:
        sending.start([Batch.of(messages[:50]), Batch.of(messages[50:])])
        await until(lambda: len(mailbox.read()) == 200)

        assert mailbox.letters == messages
        assert spy.calls == [(768, 6), (432, 6)]


async def test_older_kernel_takes_fewer_by_one_call(spy: SpyDialer, mailbox: Mailbox) -> None:
    """That is found out once, and those of that call go one by one."""
    spy.most = 64
    messages = [b"%06d" % number for number in range(400)]
    async with Sending(spy) as sending:
        sending.start([Batch.of(messages[:200])])
        sending.start([Batch.of(messages[200:])])
        await until(lambda: len(mailbox.read()) == 400)

        assert mailbox.letters == messages
        assert spy.calls == [(768, 6), (432, 6), (384, 6), (384, 6), (384, 6), (48, 6)]


async def test_large_messages_go_out_together(spy: SpyDialer, mailbox: Mailbox) -> None:
    """As long as they fit into one call's bytes."""
    messages = [bytes([number]) * 30_000 for number in range(3)] + [b"x" * 40_000, b"y" * 40_000]
    async with Sending(spy) as sending:
        sending.start([Batch.of(messages)])
        await until(lambda: len(mailbox.read()) == 5)

        assert mailbox.letters == messages
        assert spy.calls == [(60_000, 30_000)]


async def test_messages_of_all_sizes(spy: SpyDialer, mailbox: Mailbox) -> None:
    """However sizes are mixed, each message arrives as it was, in its place."""
    dice = random.Random(4)
    messages = [bytes([dice.randrange(256)]) * dice.choice((0, 1, 1, 1, 2, 700, 700)) for _ in range(1000)]
    async with Sending(spy) as sending:
        assert sending.start([Batch.of(messages)]) == 1
        await until(lambda: len(mailbox.read()) == 1000)

        assert mailbox.letters == messages
        assert all(size in (1, 2, 700) for _, size in spy.calls)


@pytest.mark.parametrize(
    "fault,calls",
    [
        (errno.EINVAL, [(3000, 1000), (30, 10), (15, 5)]),
        (errno.EMSGSIZE, [(3000, 1000), (30, 10), (15, 5)]),
        (errno.EIO, [(3000, 1000)]),
    ],
)
async def test_messages_that_cannot_go_out_together(
    spy: SpyDialer, mailbox: Mailbox, fault: int, calls: list[tuple[int, int]]
) -> None:
    """They go one by one. A path that is too narrow is found out once for each size, a device once."""
    spy.fault = fault
    messages = [b"x" * 1000] * 3 + [b"y" * 10] * 3 + [b"z" * 5] * 3
    async with Sending(spy) as sending:
        for _ in range(2):
            sending.start([Batch.of(messages)])
        await until(lambda: len(mailbox.read()) == 18)

        assert mailbox.letters == messages * 2
        assert spy.calls == calls
        assert sending.client.settled().written == 18


async def test_large_batch_does_not_keep_the_loop(sending: Sending, mailbox: Mailbox) -> None:
    """It is taken at once, goes out over several turns, and nothing else is taken before it is out."""
    batch = Batch.of([b"%d" % number for number in range(5000)])
    assert sending.start([batch]) == 1
    first = sending.client.settled().written
    assert sending.start([Batch.of([b"later"])]) == 0
    await until(lambda: len(mailbox.read()) == 5000)
    await until(lambda: sending.start([Batch.of([b"later"])]))
    await until(lambda: len(mailbox.read()) == 5001)

    assert 0 < first < 5000
    assert sending.signals.writes >= 4
    assert mailbox.letters == [*batch.messages, b"later"]


# -- no room ---------------------------------------------------------------------------------------


async def test_batch_that_does_not_fit(unix: Mailbox, tmp_path: Path) -> None:
    """What the kernel does not take keeps its place: each message arrives once, in order."""
    messages = [b"%d" % number for number in range(100)]
    async with Sending(UnixDialer(tmp_path / "box")) as sending:
        assert sending.start([Batch.of(messages)]) == 1
        first = sending.client.settled().written
        assert sending.start([Batch.of([b"later"])]) == 0
        await until(lambda: len(unix.read(1)) == 100)
        await until(lambda: sending.signals.writes and sending.client.settled().written == 100)

        assert 0 < first < 100
        assert unix.letters == messages
        assert sending.start([Batch.of([b"later"])]) == 1


async def test_batches_that_do_not_fit(unix: Mailbox, tmp_path: Path) -> None:
    """Those of which the kernel has a part are taken, and the others are asked for again."""
    batches = [Batch.of([b"%d" % number, b"%d'" % number]) for number in range(200)]
    async with Sending(UnixDialer(tmp_path / "box")) as sending:
        done = sending.start(batches)
        assert 0 < done < 20
        assert sending.start(batches[done:]) == 0
        while done < len(batches):
            seen = sending.signals.writes
            unix.read(3)
            await until(lambda seen=seen: sending.signals.writes > seen)  # type: ignore[misc]
            done += sending.start(batches[done:])
        await until(lambda: len(unix.read()) == 400)

        assert unix.letters == [message for batch in batches for message in batch]
        assert sending.client.settled().written == 400


async def test_device_without_room(unix: Mailbox, tmp_path: Path) -> None:
    """Nothing tells when it has some: it is tried again a little later, with the same message."""
    dialer = UnixDialer(tmp_path / "box", faults=[errno.ENOBUFS, errno.ENOMEM])
    async with Sending(dialer) as sending:
        assert sending.start([Batch.of([b"one", b"two"])]) == 0
        await until(lambda: sending.signals.writes)
        await until(lambda: sending.start([Batch.of([b"one", b"two"])]))
        await until(lambda: len(unix.read()) == 2)

        assert unix.letters == [b"one", b"two"]
        assert not sending.signals.errors


async def test_close_while_something_is_left(unix: Mailbox, tmp_path: Path) -> None:
    """What was written is known afterwards, nothing more is sent, and a new connection begins anew."""
    async with Sending(UnixDialer(tmp_path / "box")) as sending:
        sending.start([Batch.of([b"x"] * 100)])
        written = sending.client.settled().written
        await sending.client.aclose()
        await sending.client.aclose()
        assert sending.client.settled().written == written == len(unix.read())
        assert sending.start([Batch.of([b"y"])]) == 0
        await sending.connect()
        assert sending.client.settled() == (0, 0)
        assert sending.start([Batch.of([b"z"])]) == 1

        assert unix.read()[written:] == [b"z"]


# -- limits ----------------------------------------------------------------------------------------


async def test_messages_that_are_too_long(mailbox: Mailbox) -> None:
    """They are told before anything is sent; the option makes the limit smaller."""
    client = Sending(udp(mailbox.endpoint)).client
    unfit = client.misfits(Batch.of([b"x" * 65_507, b"x" * 65_508]))
    small = Sending(udp(mailbox.endpoint), max_message=4).client

    assert list(unfit) == [1]
    assert str(unfit[1]) == "message of 65508 bytes; udp carries at most 65507"
    assert sorted(small.misfits(Batch.of([b"1234", b"12345"]))) == [1]


@pytest.mark.parametrize("limit", [0, 65_508])
def test_limit_that_makes_no_sense(limit: int) -> None:
    """Such an option is an error that names what is possible."""
    with pytest.raises(InvalidOption, match="max-message must be from 1 byte to 65507"):
        Sending(udp(nobody()), max_message=limit)


async def test_message_that_the_system_does_not_take(unix: Mailbox, tmp_path: Path) -> None:
    """It is refused alone, outside of start(), and does not count as written before that is known."""
    async with Sending(UnixDialer(tmp_path / "box", send_buffer=4096)) as sending:
        sending.start([Batch.of([b"skipped", b"one", b"x" * 100_000, b"two", b"y" * 100_000])], 1)
        before = sending.client.settled()
        await until(lambda: sending.signals.writes)

        assert before == (1, 1)
        assert sending.client.settled() == (4, 4)
        assert [number for number, _ in sending.signals.refusals] == [1, 3]
        assert "message of 100000 bytes" in str(sending.signals.refusals[0][1])
        assert unix.read() == [b"one", b"two"]
        assert not sending.signals.errors


# -- a consumer that talks -------------------------------------------------------------------------


async def test_words_of_the_consumer(sending: Sending, mailbox: Mailbox) -> None:
    """They are thrown away, empty ones, long ones and many of them, and break nothing."""
    sending.start([Batch.of([b"one"])])
    await until(lambda: mailbox.read())
    for word in [b"", b"x" * 60_000, *[b"y"] * 200]:
        mailbox.socket.sendto(word, mailbox.sender)
    unread = select.poll()
    unread.register(sending.client._socket or -1, select.POLLIN)
    await until(lambda: not unread.poll(0))
    sending.start([Batch.of([b"two"])])
    await until(lambda: len(mailbox.read()) == 2)

    assert not sending.signals.errors

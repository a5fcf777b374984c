"""How the daemon ends: by a signal, by a second one, with and without work left."""

import signal
from contextlib import ExitStack

import pytest

from support.consumers import ProcessConsumer, RecordingConsumer
from support.ledger import Ledger
from support.processes import daemon
from support.producers import connected, send_lines
from support.waiting import eventually


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_while_messages_arrive(number: int) -> None:
    """All that its kernel had taken is read and delivered before it ends; it says that nothing remained."""
    ledger = Ledger()
    with RecordingConsumer() as one, RecordingConsumer() as two:
        with daemon("--to", f"one={one.url}", "--to", f"two={two.url}") as running:
            running.process.send_signal(signal.SIGSTOP)
            for sender in range(100):
                send_lines(running.port, ledger.write_many(100, f"sender{sender}", size=1000))
            running.process.send_signal(number)
            running.process.send_signal(signal.SIGCONT)

            assert running.wait() == 0
        assert ledger.judge(one.wait_for(10_000)).exact
        assert ledger.judge(two.wait_for(10_000)).exact
    assert running.lines[-2:] == [
        "one: 10,000 accepted, 10,000 delivered (kernel); nothing remained",
        "two: 10,000 accepted, 10,000 delivered (kernel); nothing remained",
    ]


def test_signal_while_a_consumer_is_slow() -> None:
    """It waits for who still has messages to take, within its drain time."""
    ledger = Ledger()
    with (
        ProcessConsumer(receive_buffer=8192) as slow,
        daemon("--to", f"slow={slow.url}?timeout=1h", "--drain", "1h") as running,
    ):
        slow.freeze()
        send_lines(running.port, ledger.write_many(10_000, size=200))
        running.settled("slow", 1)
        running.process.send_signal(signal.SIGTERM)
        running.wait_for_line("stopping: what is queued has 1h; a second signal leaves at once")
        slow.thaw()

        assert running.wait() == 0
        assert ledger.judge(slow.wait_for(10_000)).exact
        assert running.last["consumers"]["slow"]["delivered"] == 10_000


def test_drain_time_is_over() -> None:
    """It ends with 1 and says, for each consumer, what remained; the counters say CANCELLED."""
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        RecordingConsumer(listens=False) as down,
        daemon("--to", f"well={well.url}", "--to", f"down={down.url}", "--drain", "300ms") as running,
    ):
        send_lines(running.port, ledger.write_many(100))
        well.wait_for(100)
        running.settled("well", 100)

        assert running.terminate() == 1
        assert "well: 100 accepted, 100 delivered (kernel); nothing remained" in running.lines
        assert "down: 100 accepted, 0 delivered (kernel); 100 remained" in running.lines
        assert running.last["consumers"]["down"]["cancelled"] == 100
        assert ledger.judge(well.messages).exact


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_second_signal(number: int) -> None:
    """It leaves at once, however long it might still have waited, and says what remained."""
    with (
        RecordingConsumer(listens=False) as down,
        daemon("--to", f"down={down.url}", "--drain", "1h") as running,
    ):
        send_lines(running.port, [b"hello"])
        eventually(lambda: running.consumer("down")["accepted"] == 1, "it has come")
        running.process.send_signal(number)
        running.wait_for_line("stopping: what is queued has 1h")
        running.process.send_signal(number)

        assert running.wait() == 1
        assert "down: 1 accepted, 0 delivered (kernel); 1 remained" in running.lines


def test_sender_that_never_ends() -> None:
    """It does not keep the daemon: what it sent whole is delivered, what it sent half is not."""
    ledger = Ledger()
    with (
        RecordingConsumer() as consumer,
        daemon("--to", f"consumer={consumer.url}", "--drain", "2s") as running,
        connected(running.port) as quiet,
    ):
        whole = ledger.write_many(10)
        quiet.sendall(b"".join(message + b"\n" for message in whole) + b"half a mess")
        consumer.wait_for(10)
        running.settled("consumer", 10)

        assert running.terminate() == 0
        assert consumer.messages == whole
        assert eventually(lambda: consumer.streams[0].ending, "the connection ends") == "clean"
        assert consumer.streams[0].tail == b""


def test_nothing_ever_came() -> None:
    """It ends at once, with 0."""
    with ExitStack() as stack:
        consumer = stack.enter_context(RecordingConsumer())
        running = stack.enter_context(daemon("--to", f"consumer={consumer.url}"))

        assert running.terminate() == 0
        assert running.lines[-1] == "consumer: 0 accepted, 0 delivered (kernel); nothing remained"


def test_signal_while_a_consumer_is_looked_for() -> None:
    """A daemon whose consumers are all down, and that has nothing for them, ends at once with 0."""
    with (
        RecordingConsumer(listens=False) as down,
        daemon("--to", f"down={down.url}", "--drain", "1h") as running,
    ):
        running.wait_for_line("down: down: .*connection refused; is it running")

        assert running.terminate() == 0

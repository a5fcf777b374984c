"""Consumers of the daemon that are down, go away, are killed, and come back."""

from support.consumers import ProcessConsumer, RecordingConsumer
from support.ledger import Ledger, Verdict
from support.processes import Daemon, daemon
from support.producers import send_lines
from support.waiting import eventually, steady

SIZE = 200
FRAME = SIZE + 1

QUICK = "retry-backoff=20ms&retry-max-backoff=50ms"
"""For URLs: a consumer that comes back is found soon."""


def arrive(running: Daemon, ledger: Ledger, count: int) -> list[bytes]:
    """Send so many messages to the daemon, and return them."""
    messages = ledger.write_many(count, size=SIZE)
    send_lines(running.port, messages)
    return messages


def test_consumer_is_down_at_start() -> None:
    """It gets what was queued, once and in order; the other one never waited for it."""
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        RecordingConsumer(listens=False) as late,
        daemon("--to", f"well={well.url}", "--to", f"late={late.url}?{QUICK}") as running,
    ):
        arrive(running, ledger, 5000)
        assert ledger.judge(well.wait_for(5000)).exact
        assert running.consumer("late")["pending"] == 5000
        late.come_back()

        assert ledger.judge(late.wait_for(5000)).exact
        assert running.settled("late", 5000)["resent"] == 0
        assert running.terminate() == 0


def test_consumer_goes_away_between_messages() -> None:
    """What came in the meantime is queued; nothing is lost or doubled, for nothing was in flight."""
    ledger = Ledger()
    with RecordingConsumer() as restless, daemon("--to", f"restless={restless.url}?{QUICK}") as running:
        for turn in range(1, 6):
            arrive(running, ledger, 100)
            running.settled("restless", turn * 200 - 100)
            restless.wait_for(turn * 200 - 100)
            restless.go_away()
            arrive(running, ledger, 100)
            restless.come_back()
            restless.wait_for(turn * 200)

        assert ledger.judge(restless.messages).exact
        counted = running.settled("restless", 1000)
        assert (counted["delivered"], counted["resent"]) == (1000, 0)


def test_consumer_goes_away_in_the_middle() -> None:
    """What is doubled was in flight when the connection broke, and the daemon says how much that was."""
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        RecordingConsumer(receive_buffer=8192) as restless,
        daemon("--to", f"well={well.url}", "--to", f"restless={restless.url}?{QUICK}") as running,
    ):
        restless.die_after(500 * FRAME + 7)
        arrive(running, ledger, 20_000)
        assert ledger.judge(well.wait_for(20_000)).exact
        eventually(lambda: restless.is_away, "it goes away")
        restless.come_back()
        counted = running.settled("restless", 20_000)
        eventually(lambda: restless.messages[-1] == ledger.sent[-1], "what is on its way is read")
        record = restless.messages
        verdict = ledger.judge(record)

        assert counted["delivered"] == 20_000
        assert not verdict.disordered
        assert not verdict.corrupt
        assert len(verdict.doubled) <= counted["resent"]
        # What is lost had been acknowledged by a kernel that then reset the connection: a buffer of it.
        assert len(verdict.lost) * FRAME <= 65536
        assert restless.streams[0].tail == ledger.sent[500][:7]


def test_consumer_is_killed_with_unread_messages() -> None:
    """Lost is exactly what its dead receive buffer held; all else arrives once and in order."""
    ledger = Ledger()
    with ProcessConsumer() as killed, daemon("--to", f"killed={killed.url}?{QUICK}") as running:
        arrive(running, ledger, 1000)
        killed.wait_for(1000)
        killed.freeze()
        unread = arrive(running, ledger, 100)
        running.settled("killed", 1100)
        held = killed.unread
        killed.kill()
        killed.start()
        arrive(running, ledger, 1000)
        verdict = ledger.judge(killed.wait_for(2000))

        assert held == len(unread) * FRAME
        assert verdict == Verdict(lost=tuple(unread))
        assert running.settled("killed", 2100)["resent"] == 0


def test_consumer_is_killed_with_a_full_buffer() -> None:
    """What its kernel had not acknowledged is sent again, from the first message of that on; nothing else."""
    ledger = Ledger()
    with (
        ProcessConsumer(receive_buffer=16384) as killed,
        daemon("--to", f"killed={killed.url}?{QUICK}") as running,
    ):
        arrive(running, ledger, 1000)
        killed.wait_for(1000)
        killed.freeze()
        arrive(running, ledger, 5000)
        # The kernel of a frozen process acknowledges until its buffer is full.
        steady(lambda: running.consumer("killed")["delivered"] - 1000, 0.5, "the buffer is full")
        held = killed.unread
        killed.kill()
        killed.start()
        counted = running.settled("killed", 6000)
        acknowledged = 5000 - counted["resent"]
        verdict = ledger.judge(killed.wait_for(6000 - acknowledged))

        assert acknowledged == held // FRAME > 0
        assert verdict == Verdict(lost=tuple(ledger.sent[1000 : 1000 + acknowledged]))
        assert counted["delivered"] == 6000


def test_consumer_freezes_and_goes_on() -> None:
    """Everything arrives once: nothing was given up, and the other consumer had it all in the meantime."""
    ledger = Ledger()
    with (
        RecordingConsumer() as well,
        ProcessConsumer(receive_buffer=8192) as frozen,
        daemon("--to", f"well={well.url}", "--to", f"frozen={frozen.url}?timeout=1h") as running,
    ):
        frozen.freeze()
        arrive(running, ledger, 20_000)
        assert ledger.judge(well.wait_for(20_000)).exact
        assert running.consumer("frozen")["pending"] > 0
        frozen.thaw()

        assert ledger.judge(frozen.wait_for(20_000)).exact
        assert running.terminate() == 0


def test_queue_is_full() -> None:
    """The oldest that wait are dropped, counted and logged; what arrives is in order, and none of it old."""
    ledger = Ledger()
    with (
        RecordingConsumer(listens=False) as late,
        daemon("--to", f"late={late.url}?{QUICK}&buffer=100kB") as running,
    ):
        for _ in range(100):
            arrive(running, ledger, 20)
            # Each by a connection of its own: between several that are open there is no order.
            eventually(lambda: running.consumer("late")["accepted"] == len(ledger.sent), "all has come")
        dropped = running.consumer("late")["dropped"]
        late.come_back()
        record = late.wait_for(2000 - dropped)

        assert 0 < dropped < 2000
        assert ledger.judge(record, expected=ledger.sent[dropped:]).exact
        running.wait_for_line(r"late: \d+ messages dropped: .*buffer of .* is full")


def test_queue_is_full_and_much_is_in_flight() -> None:
    """What is in flight is not dropped: it arrives, and behind it the newest of what waited."""
    ledger = Ledger()
    with (
        ProcessConsumer(receive_buffer=8192) as slow,
        daemon("--to", f"slow={slow.url}?buffer=8MB&timeout=1h") as running,
    ):
        slow.freeze()
        # One connection: between several there is no order.
        send_lines(running.port, ledger.write_many(20_000, size=1000))
        eventually(lambda: running.consumer("slow")["accepted"] == 20_000, "all has come")
        slow.thaw()
        counted = running.settled("slow", 20_000)
        record = slow.wait_for(20_000 - counted["dropped"])
        verdict = ledger.judge(record)
        first = int(verdict.lost[0].split(b"/")[1])

        assert counted["dropped"] > 0
        assert counted["delivered"] == 20_000 - counted["dropped"]
        # One gap: between what was in flight and what was left of what waited.
        assert verdict == Verdict(lost=tuple(ledger.sent[first : first + counted["dropped"]]))
        assert first > 0


def test_deadline_passes_while_it_is_down() -> None:
    """What is too old fails, with the reason in the log, and what is young arrives."""
    ledger = Ledger()
    with (
        RecordingConsumer(listens=False) as late,
        daemon("--to", f"late={late.url}?{QUICK}&deadline=200ms") as running,
    ):
        old = arrive(running, ledger, 100)
        assert running.settled("late", 100)["failed"] == 100
        running.wait_for_line(r"late: 100 messages failed: .*within 200ms, it was not sent")
        late.come_back()
        eventually(lambda: running.consumer("late")["state"] == "up", "it is found again")
        young: list[bytes] = []

        def arrives() -> bool:
            """Whether what is young arrives: where somebody stands still, it grows old on its way."""
            young[:] = arrive(running, ledger, 100)
            running.settled("late", len(ledger.sent))
            return late.messages[-1:] == young[-1:]

        eventually(arrives, "what is young arrives")
        record = late.messages

        assert ledger.judge(record[-100:], expected=young).exact
        assert not set(old) & set(record)

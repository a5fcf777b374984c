"""Somebody sets the clock, by an hour or by ten years, both ways: no timer, deadline or limit notices."""

import asyncio
import glob
import random
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest

from producer_pool import AsyncProducerPool, DeliveryPolicy, Limits, Overflow, Retry
from producer_pool.model.outcomes import Outcome
from producer_pool.model.stats import Health
from producer_pool.testing import run_in_virtual_time
from support.clocks import HOUR, LIBRARIES, YEARS, JumpingClock, LibraryClock, PythonClock
from support.consumers import RecordingConsumer
from support.engines import dead
from support.fake_clients import FakeClient, FakePipelinedClient, hang
from support.faults import FULL, lacks, report
from support.ledger import Ledger
from support.processes import daemon
from support.producers import connected

JUMPS = (HOUR, -HOUR, YEARS, -YEARS, 0)

real_time = time.time


def wildly() -> float:
    """Be a clock that is set anew each time that somebody looks."""
    return real_time() + random.choice(JUMPS)


class Transcript:
    """All that happens in a day of a pool, with the loop's time of each."""

    def __init__(self) -> None:
        self.lines: list[tuple[float, object]] = []

    def note(self, *what: object) -> None:
        self.lines.append((asyncio.get_running_loop().time(), what))

    def state_changed(self, health: Health) -> None:
        self.note(health.producer_id, health.state, health.since, health.next_retry)

    def settled(self, producer_id: str, outcome: Outcome, count: int) -> None:
        self.note(producer_id, outcome, count)


async def a_day() -> list[tuple[float, object]]:
    """Run what goes by time: retries, deadlines, overflow, stalls, late acknowledgements, the end."""
    transcript = Transcript()
    loop = asyncio.get_running_loop()
    pool = AsyncProducerPool(limits=Limits(drain=7.0))
    pool.engine.observers.extend([transcript])
    hangs, stalls = FakeClient(timeout=3.0), FakePipelinedClient(room=1, timeout=5.0)
    hangs.always = hang
    block = DeliveryPolicy(overflow=Overflow.BLOCK, buffer=2000, deadline=30.0)
    await pool.add_producer("dead", dead(), policy=DeliveryPolicy(retry=Retry(attempts=None), deadline=600.0))
    await pool.add_producer("hangs", hangs, policy=DeliveryPolicy(retry=Retry(attempts=2), deadline=100.0))
    await pool.add_producer("stalls", stalls, policy=DeliveryPolicy.relay())
    await pool.add_producer("late", FakePipelinedClient(confirms_after=2.0), policy=DeliveryPolicy.relay())
    await pool.add_producer("block", dead(), policy=block)
    for number in range(20):
        transcript.note(await pool.forward_to_all(b"%d" % number, wait=10.0))
        await asyncio.sleep(60)
    transcript.note(await pool.drain(wait=120.0), await pool.check(wait=5.0))
    began = loop.time()
    await pool.aclose()
    transcript.note(loop.time() - began, await pool.stats())
    return [(when, repr(what)) for when, what in transcript.lines]


@pytest.mark.parametrize("jump", [*JUMPS[:-1], "wildly"])
def test_day_with_another_clock(jump: int | str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each retry, expiry and outcome comes at the same moment as without: by the loop's clock."""
    usual = run_in_virtual_time(a_day)
    began = real_time()

    def jumping() -> float:
        # In the middle of it, and not before the first look.
        return real_time() + (jump if isinstance(jump, int) and real_time() > began else 0)

    monkeypatch.setattr(time, "time", wildly if jump == "wildly" else jumping)
    monkeypatch.setattr(time, "time_ns", lambda: int(time.time() * 1e9))

    assert len(usual) > 100
    assert run_in_virtual_time(a_day) == usual


class NaiveDeadline:
    """A message that expires by the wall clock."""

    def __init__(self, seconds: float) -> None:
        self._end = time.time() + seconds

    @property
    def over(self) -> bool:
        return time.time() >= self._end


@pytest.mark.parametrize("jump", JUMPS[:-1])
def test_control_of_the_day(jump: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A naive deadline is over at once, or an hour too late."""
    deadlines = [NaiveDeadline(60.0), NaiveDeadline(-60.0)]
    right = [deadline.over for deadline in deadlines]
    monkeypatch.setattr(time, "time", lambda: real_time() + jump)

    assert right == [False, True]
    assert [deadline.over for deadline in deadlines] != right


def python_clock(folder: Path) -> JumpingClock:
    return PythonClock(folder)


def library_clock(folder: Path) -> JumpingClock:
    libraries = glob.glob(LIBRARIES)
    if not libraries:
        lacks("needs libfaketime, from the package faketime")
    return LibraryClock(folder, libraries[0])


@pytest.mark.parametrize("made", [python_clock, library_clock] if FULL else [python_clock])
def test_daemon_while_the_clock_jumps(made: Callable[[Path], JumpingClock], tmp_path: Path) -> None:
    """Nobody is evicted for being idle, nothing expires, who is lost is found again, and it ends in time."""
    clock = made(tmp_path)
    ledger = Ledger()
    options = "retry-backoff=10ms&retry-max-backoff=50ms&deadline=30m"
    with ExitStack() as stack:
        steady, lost = (stack.enter_context(RecordingConsumer()) for _ in range(2))
        to = ("--to", f"steady={steady.url}", "--to", f"lost={lost.url}?{options}")
        listen = ("--listen", "tcp://127.0.0.1:0?idle-timeout=30m")
        running = stack.enter_context(daemon(*listen, *to, env=clock.environment, listens=False))
        sock = stack.enter_context(connected(running.port))
        years: set[str] = set()
        for turn, jump in enumerate(JUMPS, 1):
            lost.go_away()
            sock.sendall(b"".join(message + b"\n" for message in ledger.write_many(50)))
            steady.wait_for(100 * turn - 50)
            clock.jump(jump)
            running.status()
            sock.sendall(b"".join(message + b"\n" for message in ledger.write_many(50)))
            steady.wait_for(100 * turn)
            lost.come_back()
            lost.wait_for(100 * turn)
            years.update(line[:4] for line in running.lines if line[:4].isdigit())
        listener = running.status()["listeners"][0]
        sock.close()
        code = running.terminate()
        verdicts = [ledger.judge(consumer.messages) for consumer in (steady, lost)]

        report(
            f"clock jumps, {made.__name__}", jumps=len(JUMPS), lost=sum(len(each.lost) for each in verdicts)
        )
        assert verdicts[0].exact
        assert verdicts[1].complete
        assert (listener["evicted"], listener["accepted"], code) == (0, 1, 0)
        assert len(years) > 1, "the clock of the log did not jump"

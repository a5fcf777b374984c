"""A signal each millisecond, which interrupts whatever the system is asked: nothing is lost or doubled."""

import os
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

from producer_pool import DeliveryPolicy, Limits, ProducerPool
from support.consumers import RecordingConsumer
from support.faults import report, times
from support.ledger import Ledger
from support.processes import daemon, run_program
from support.waiting import BOUND

COUNT: Final = times(5_000, 200_000)
AT_ONCE: Final = 100
"""Messages on their way at the most: as datagrams, they have room in the buffer of who is late."""

STORM: Final = """
import atexit, signal

storms = 0

def strike(number, frame):
    global storms
    storms += 1

signal.signal(signal.SIGALRM, strike)
signal.siginterrupt(signal.SIGALRM, True)  # The system does not start again what it was at.
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
atexit.register(signal.setitimer, signal.ITIMER_REAL, 0, 0)  # At its end, Python forgets its handlers.
"""


def stormy(folder: Path) -> Mapping[str, str]:
    """Return variables for a Python in which it storms from the beginning; how often, it says at its end."""
    # In one call, so that nothing else that is said comes between.
    ending = "import atexit, os\natexit.register(lambda: os.write(2, f'\\n{storms} signals\\n'.encode()))\n"
    (folder / "sitecustomize.py").write_text(STORM + ending)
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))}


@pytest.mark.parametrize("scheme", ["tcp", "udp", "unix", "ws"][: times(2, 4)])
def test_daemon_in_a_storm(scheme: str, tmp_path: Path) -> None:
    """All that comes goes out, to one who is lost and found again, too."""
    ledger = Ledger()
    listen = {"unix": f"unix://{tmp_path}/in.sock"}.get(scheme, f"{scheme}://127.0.0.1:0")
    with ExitStack() as stack:
        consumers = [stack.enter_context(RecordingConsumer()) for _ in range(2)]
        to = [
            part
            for number, consumer in enumerate(consumers)
            for part in ("--to", f"c{number}={consumer.url}?retry-max-backoff=20ms&retry-backoff=10ms")
        ]
        running = stack.enter_context(daemon("--listen", listen, *to, env=stormy(tmp_path), listens=False))
        url = listen if scheme == "unix" else f"{scheme}://127.0.0.1:{running.port}"
        pool = stack.enter_context(ProducerPool(policy=DeliveryPolicy.relay(), limits=Limits(drain=5)))
        pool.add_producer("it", url)
        for _ in range(5):
            for _ in range(COUNT // 5 // AT_ONCE):
                receipts = [pool.submit(message) for message in ledger.write_many(AT_ONCE, size=100)]
                assert receipts[-1].results(wait=BOUND).ok
                for consumer in consumers:
                    consumer.wait_for(len(ledger.sent))
            consumers[1].end_connections()
        assert running.terminate() == 0
        struck = next(int(line.split()[0]) for line in running.lines if line.endswith(" signals"))
        verdicts = [ledger.judge(consumer.messages) for consumer in consumers]

        report(
            f"storm, {scheme}", messages=COUNT, signals=struck, lost=sum(len(each.lost) for each in verdicts)
        )
        assert all(verdict.exact for verdict in verdicts), verdicts
        assert struck > 100


def test_verbs_in_a_storm() -> None:
    """What waits does so for as long as it was told, and no longer; what is delivered is told as it is."""
    program = (
        STORM
        + """
import sys, time
from producer_pool import DeliveryPolicy, Limits, Outcome, Overflow, ProducerPool, Full

url, stuck = sys.argv[1:]

def passed(call):
    began = time.monotonic()
    result = call()
    return time.monotonic() - began, result

with ProducerPool(limits=Limits(drain=0.3)) as pool:
    pool.add_producer("a", url)
    for number in range(50):
        assert pool.forward_to_all(b"%d" % number, wait=20).ok
    pool.add_producer("stuck", stuck + "?overflow=block&buffer=200kB&timeout=600s&deadline=600s")
    pool.add_producer("hasty", "null:?deadline=300ms")  # Nobody is made to wait for longer.
    took, result = passed(lambda: pool.forward_to("stuck", b"x" * 8_000_000, wait=0.3))
    while True:  # until no room is left for it
        began = time.monotonic()
        try:
            pool.submit(b"x" * 100_000, to=["stuck", "hasty"])
        except Full:
            break
    assert time.monotonic() - began >= 0.29
    took, done = passed(lambda: pool.drain(wait=0.3))
    assert took >= 0.29 or done, (took, done)
    took, _ = passed(lambda: pool.check(wait=0.3))
    assert took < 10
    assert pool.forward_to("a", b"last", wait=20).ok
print(storms)
"""
    )
    with RecordingConsumer() as consumer, RecordingConsumer(reads=False, receive_buffer=8192) as stuck:
        struck = int(run_program(program, consumer.url, stuck.url).stdout)
        record = consumer.wait_for(51)

    assert record == [*(b"%d" % number for number in range(50)), b"last"]
    assert struck > 100


def test_control_of_the_storm() -> None:
    """Who asks the system without asking again sees nothing but interruptions."""
    program = (
        STORM
        + """
import ctypes, errno, socket

libc = ctypes.CDLL(None, use_errno=True)
here, there = socket.socketpair()
buffer = ctypes.create_string_buffer(100)
lost = 0
for _ in range(100):
    if libc.recv(here.fileno(), buffer, 100, 0) < 0 and ctypes.get_errno() == errno.EINTR:
        lost += 1
print(lost)
"""
    )

    assert int(run_program(program).stdout) == 100

"""The load generator finds every kind of damage. A relay that does it on purpose is the control."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bench import build
from bench.messages import Format, Ledger
from bench.report import faults
from bench.runner import Run
from bench.traffic import LoadProcess, Traffic

COUNT = 400
TRAFFIC = Traffic(size=40, consumers=2, producers=2, batch=7, count=COUNT, idle=0.2)
FAULTS = ("lost", "doubled", "reordered", "corrupt", "torn")

# Takes every line of all producers, returns what the first consumer gets. The second one gets them untouched.
Damage = Callable[[list[bytes]], list[bytes]]


@pytest.fixture(params=["python", *(["C"] if build.compiler() else [])])
def in_python(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "python")


@contextmanager
def relay(ports: list[int], damage: Damage) -> Iterator[int]:
    """A relay that keeps all lines until every producer has sent its share, and forwards them then."""
    over = threading.Event()
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(10)
        consumers = [
            opened.enter_context(socket.create_connection(("127.0.0.1", port), 10)) for port in ports
        ]

        def forward() -> None:
            with ExitStack() as sources:
                data = []
                for _ in range(TRAFFIC.producers):
                    source = sources.enter_context(server.accept()[0])
                    source.settimeout(10)
                    share = b""
                    while share.count(b"\n") < COUNT // TRAFFIC.producers:
                        share += source.recv(65536)
                    data.append(share)
                lines = b"".join(data).splitlines(keepends=True)
                for consumer, wire in zip(consumers, (damage(list(lines)), lines), strict=True):
                    consumer.sendall(b"".join(wire))
                    consumer.shutdown(socket.SHUT_WR)
                over.wait(10)  # to cut off a producer would be a finding of its own

        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


def sent_through(damage: Damage, in_python: bool) -> dict[str, Any]:
    with LoadProcess(TRAFFIC, bound=10, python=in_python) as load, relay(load.ports, damage) as port:
        load.begin(port, 0)
        result = load.result()
    untouched = result["consumers"][1]
    assert untouched["received"] == COUNT
    assert not any(untouched[fault] for fault in FAULTS)
    return result


def found(result: dict[str, Any]) -> dict[str, int]:
    return {fault: result["consumers"][0][fault] for fault in FAULTS if result["consumers"][0][fault]}


def test_honest_relay(in_python: bool) -> None:
    """Nothing is found where nothing is wrong, and the messages are those of the Python format."""
    seen: list[bytes] = []

    def look(lines: list[bytes]) -> list[bytes]:
        seen.extend(lines)
        return lines

    result = sent_through(look, in_python)

    form = Format(TRAFFIC.size)
    decoded = [form.decode(line[:-1]) for line in seen]
    assert [(d[0], d[1]) if d else None for d in decoded] == [
        (c, s) for c in (0, 1) for s in range(COUNT // 2)
    ]
    assert result["end"] == "complete"
    assert result["intact"] is True


def test_loss(in_python: bool) -> None:
    """Single losses, a run of them, and the very last message are all counted."""
    result = sent_through(
        lambda lines: [x for i, x in enumerate(lines) if i not in {0, 9, 50, 51, 52, 399}], in_python
    )

    assert found(result) == {"lost": 6}
    assert result["intact"] is False
    assert faults([Run("tcp", "lossy", 0, False, {}, result)]) == ["tcp/lossy #0: lost=6"]


def test_doubling(in_python: bool) -> None:
    """A message that comes again is doubled, at once or much later."""
    result = sent_through(lambda lines: [*lines[:5], lines[4], *lines[5:], lines[0], lines[200]], in_python)

    assert found(result) == {"doubled": 3}
    assert result["intact"] is False


def test_reordering(in_python: bool) -> None:
    """Messages that were overtaken are counted one by one, and are not lost."""
    result = sent_through(lambda lines: [*lines[:10], *lines[11:14], lines[10], *lines[14:]], in_python)

    assert found(result) == {"reordered": 1}
    assert result["intact"] is False


def test_order_between_producers(in_python: bool) -> None:
    """Each producer's own order counts; how they are mixed does not."""
    half = COUNT // 2
    mixed = sent_through(
        lambda lines: [x for two in zip(lines[half:], lines[:half], strict=True) for x in two], in_python
    )

    assert found(mixed) == {}


def test_corruption(in_python: bool) -> None:
    """One changed byte anywhere makes a message corrupt, and the one that was sent is lost."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        places = {"conn": 0, "seq": 5, "time": 12, "check": 17, "first of the fill": 18, "last": 39}
        for number, at in enumerate(places.values()):
            line = bytearray(lines[number * 20])
            line[at] ^= 1
            lines[number * 20] = bytes(line)
        return lines

    assert found(sent_through(spoil, in_python)) == {"lost": 6, "corrupt": 6}


def test_joined_and_split_lines(in_python: bool) -> None:
    """A missing and an added newline are corruption, and what follows is read right again."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        return [lines[0][:-1], *lines[1:50], lines[50][:20] + b"\n" + lines[50][20:], *lines[51:]]

    assert found(sent_through(spoil, in_python)) == {"lost": 3, "corrupt": 3}


def test_half_a_message(in_python: bool) -> None:
    """A stream that ends inside a message is torn."""
    result = sent_through(lambda lines: [*lines[:-1], lines[-1][:20]], in_python)

    assert found(result) == {"lost": 1, "torn": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: abstract unix sockets")
def test_over_unix_sockets(in_python: bool) -> None:
    """Port N is the unix socket of that number; here, the load sends to its own consumer."""
    traffic = replace(TRAFFIC, consumers=1, unix=True)
    with (
        LoadProcess(traffic, bound=10, python=in_python) as load,
        socket.socket(socket.AF_UNIX) as asking,
    ):
        (port,) = load.ports
        asking.connect(f"\0producer-pool-bench-{port}")
        load.begin(port, 0)
        result = load.result()

    assert result["intact"] is True
    assert result["consumers"][0]["received"] == COUNT


def test_ledger_fills_holes() -> None:
    """A hole closes message by message, in any order, and what fills it twice is doubled."""
    form = Format(10)
    ledger = Ledger(form, 1)
    for seq in (0, 9, 5, 4, 1, 8, 5, 9, 2, 3, 6, 7):
        ledger.enter(form.encode(0, seq))

    assert (ledger.unique, ledger.reordered, ledger.doubled, ledger.corrupt) == (10, 8, 2, 0)

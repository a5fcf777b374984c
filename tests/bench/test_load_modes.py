"""The load over several wires at once, on a schedule, with silent connections and stalled consumers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest

from bench import build
from bench.messages import Format
from bench.places import unix_socket
from bench.traffic import DATAGRAMS_UNDER_WAY, LoadProcess, Traffic
from bench.websocket import REQUEST, TEXT, frame

COUNT = 90
TRAFFIC = Traffic(size=40, consumers=1, batch=9, count=COUNT, idle=1.0)
"""Who has less than a second is called idle where a relay of these tests only waits for its turn."""
WIRES = ("tcp", "ws", "unix", "udp")


@pytest.fixture(params=["python", *(["C"] if build.compiler() else [])])
def in_python(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "python")


def open_consumer(wire: str, port: int) -> socket.socket:
    if wire == "unix":
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(unix_socket(port)))
    elif wire == "udp":
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.connect(("127.0.0.1", port))
    else:
        sock = socket.create_connection(("127.0.0.1", port))
    sock.settimeout(10)
    if wire == "ws":
        sock.sendall(REQUEST)
        while not sock.recv(4096).endswith(b"\r\n\r\n"):
            pass
    return sock


def send_line(wire: str, consumer: socket.socket, line: bytes) -> None:
    message = line.removesuffix(b"\n")
    wired = {"ws": frame(TEXT, message, b"mask"), "udp": message}
    consumer.sendall(wired.get(wire, line))


@contextmanager
def lines_relayed(
    wires: Sequence[str], ports: Sequence[int], passed: Callable[[int, int], bool]
) -> Iterator[int]:
    """Take lines from one producer over tcp; *passed* tells whether a message goes to a consumer."""
    with ExitStack() as opened:
        server = opened.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        consumers = [opened.enter_context(open_consumer(*pair)) for pair in zip(wires, ports, strict=True)]

        def forward() -> None:
            source = opened.enter_context(server.accept()[0])
            with source.makefile("rb") as lines:
                for number, line in enumerate(lines):
                    for index, (wire, consumer) in enumerate(zip(wires, consumers, strict=True)):
                        if passed(index, number):
                            send_line(wire, consumer, line)

        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            thread.join(10)


def measured(
    traffic: Traffic, in_python: bool, passed: Callable[[int, int], bool] = lambda index, number: True
) -> dict[str, Any]:
    with LoadProcess(traffic, bound=30, python=in_python) as load:
        wires = [
            (traffic.reach or (traffic.wire,))[i % len(traffic.reach or "1")] for i in range(len(load.ports))
        ]
        relay = lines_relayed(wires, load.ports, passed)
        with relay as port:
            load.begin(port, 0)
            result = load.result()
            load.child.__exit__(None, None, None)  # it has the other end of what the relay reads
    return result


def test_wire_for_each_consumer(in_python: bool) -> None:
    """Each consumer proves what comes over its own wire, whatever the producers send over."""
    traffic = replace(TRAFFIC, consumers=4, reach=WIRES)

    result = measured(traffic, in_python)

    assert [consumer["received"] for consumer in result["consumers"]] == [COUNT] * 4
    assert result["intact"] is True


@pytest.mark.parametrize("lossy", range(4), ids=WIRES)
def test_loss_on_one_wire(lossy: int, in_python: bool) -> None:
    """What one consumer misses is its own loss."""
    traffic = replace(TRAFFIC, consumers=4, reach=WIRES)

    result = measured(traffic, in_python, lambda index, number: (index, number) != (lossy, 17))

    assert [consumer["lost"] for consumer in result["consumers"]] == [int(i == lossy) for i in range(4)]
    assert result["intact"] is False


def test_wires_in_turn(in_python: bool) -> None:
    """With more consumers than wires, the wires begin anew."""
    result = measured(replace(TRAFFIC, consumers=3, reach=("tcp", "unix")), in_python)

    assert result["intact"] is True


def test_datagrams_bound_what_is_under_way() -> None:
    """One consumer of datagrams is enough: what finds no room there would be lost."""
    flat_out = replace(TRAFFIC, consumers=4, batch=64)

    assert replace(flat_out, reach=("tcp", "udp")).window == DATAGRAMS_UNDER_WAY
    assert replace(flat_out, reach=("tcp", "unix")).window > DATAGRAMS_UNDER_WAY


def test_less_under_way() -> None:
    """A slow relay may get less at once, but never less than one write."""
    assert replace(TRAFFIC, within=100).window == 100
    assert replace(TRAFFIC, within=5).window == TRAFFIC.batch


def test_quiet_connections(in_python: bool) -> None:
    """They are there before the first message, say nothing, and stay until all has arrived."""
    traffic = replace(TRAFFIC, quiet=20, idle=5.0)
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.create_server(("127.0.0.1", 0), backlog=64) as server,
        open_consumer("tcp", load.ports[0]) as consumer,
        ExitStack() as opened,
    ):
        server.settimeout(10)
        load.begin(server.getsockname()[1], 0)
        sources = [opened.enter_context(server.accept()[0]) for _ in range(21)]
        said = b""
        while said.count(b"\n") < COUNT:
            said += sources[0].recv(65536)
        for source in sources[1:]:
            source.setblocking(False)
            with pytest.raises(BlockingIOError):
                source.recv(1)
        consumer.sendall(said)
        result = load.result()

    assert result["intact"] is True


def test_stalled_consumer_reads_at_last(in_python: bool) -> None:
    """What it was sent is in its ledger, and what it was not is lost; neither spoils the run."""
    traffic = replace(TRAFFIC, consumers=2, stall=1, thaw=True)

    result = measured(traffic, in_python, lambda index, number: index == 0 or number % 3 > 0)

    assert [consumer["received"] for consumer in result["consumers"]] == [COUNT, COUNT * 2 // 3]
    assert [consumer["lost"] for consumer in result["consumers"]] == [0, COUNT // 3]
    assert result["intact"] is True


def test_stalled_consumer_without_thaw(in_python: bool) -> None:
    """It reads nothing at all."""
    result = measured(replace(TRAFFIC, consumers=2, stall=1), in_python)

    assert [consumer["received"] for consumer in result["consumers"]] == [COUNT, 0]
    assert result["intact"] is True


def scheduled(in_python: bool) -> tuple[list[int], dict[str, Any]]:
    """Send on a schedule, through a relay that keeps all until the last is there."""
    rate = 1000
    traffic = replace(TRAFFIC, batch=1, rate=float(rate), idle=5.0)
    form = Format(traffic.size)
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.create_server(("127.0.0.1", 0)) as server,
        open_consumer("tcp", load.ports[0]) as consumer,
    ):
        load.begin(server.getsockname()[1], 0)
        with server.accept()[0] as source:
            said = b""
            while said.count(b"\n") < COUNT:
                said += source.recv(65536)
            consumer.sendall(said)
            result = load.result()
    decoded = [form.decode(line) for line in said.split(b"\n")[:-1]]
    return [message[2] for message in decoded if message], result


def test_messages_carry_the_time_when_they_were_due(in_python: bool) -> None:
    """The schedule is kept in the messages, and so is the wait of one that could not be sent in time."""
    times, _ = scheduled(in_python)

    assert times == pytest.approx([number * 1e6 for number in range(COUNT)], abs=1)


def test_latency_counts_from_the_schedule(in_python: bool) -> None:
    """A relay that holds all back until the last is due delays the first by the whole schedule."""
    _, result = scheduled(in_python)

    held = (COUNT - 1) * 1000
    latency = result["latency_us"]
    # Both generators round by up to 1/32.
    assert latency["max"] >= held * 31 / 32
    assert latency["p50"] >= held / 2 * 31 / 32
    assert latency["p50"] < latency["p99"] <= latency["p999"] <= latency["max"]
    # All arrive at once, and so the median lies half of the schedule below the first.
    assert latency["max"] - latency["p50"] == pytest.approx(held / 2, rel=0.2)

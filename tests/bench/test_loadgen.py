"""The load generator finds every kind of damage. A relay that does it on purpose is the control."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri

from bench import build
from bench.messages import Format, Ledger
from bench.places import unix_socket
from bench.report import faults
from bench.runs import Run
from bench.traffic import DATAGRAMS_UNDER_WAY, LoadProcess, Traffic

COUNT = 180
TRAFFIC = Traffic(size=40, consumers=2, producers=2, batch=7, count=COUNT, idle=1.0)
"""Who has less than a second is called idle where a relay of these tests only waits for its turn."""
FAULTS = ("lost", "doubled", "reordered", "corrupt", "torn")
HEAD = {"tcp": 0, "ws": 6, "udp": 0}
"""Bytes before the message, in what is one on the wire."""

# Takes the frames of all producers, returns what the first consumer gets. The second one gets them untouched.
# A frame is one message on the wire: a line with its newline, a masked websocket frame, a datagram.
Damage = Callable[[list[bytes]], list[bytes]]


@pytest.fixture(params=["python", *(["C"] if build.compiler() else [])])
def in_python(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "python")


@pytest.fixture(params=["tcp", "ws", "udp"])
def wire(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- a relay, whose websockets are those of the library --------------------------------------------


def masked(message: bytes, opcode: Opcode = Opcode.TEXT, *, fin: bool = True) -> bytes:
    return Frame(opcode, message, fin).serialize(mask=True)


def lines_of(source: socket.socket, count: int) -> list[bytes]:
    share = b""
    missing = count
    while missing > 0:
        data = source.recv(65536)
        assert data, f"it ended {missing} lines early"
        share += data
        missing -= data.count(b"\n")
    return share.splitlines(keepends=True)


def greeted(source: socket.socket) -> ServerProtocol:
    protocol = ServerProtocol()
    while not (events := protocol.events_received()):
        protocol.receive_data(source.recv(65536))
    assert isinstance(events[0], Request)
    protocol.send_response(protocol.accept(events[0]))
    source.sendall(b"".join(protocol.data_to_send()))
    return protocol


def frames_of(source: socket.socket, protocol: ServerProtocol, count: int) -> list[bytes]:
    messages: list[bytes] = []
    while len(messages) < count:
        protocol.receive_data(source.recv(65536))
        for frame in protocol.events_received():
            assert isinstance(frame, Frame)
            assert frame.opcode is Opcode.TEXT
            messages.append(bytes(frame.data))
    return [masked(message) for message in messages]


def open_websocket(port: int) -> socket.socket:
    """Connect to a consumer, up to the end of the handshake."""
    sock = socket.create_connection(("127.0.0.1", port), 10)
    protocol = ClientProtocol(parse_uri(f"ws://127.0.0.1:{port}"))
    protocol.send_request(protocol.connect())
    sock.sendall(b"".join(protocol.data_to_send()))
    while not protocol.events_received():
        protocol.receive_data(sock.recv(65536))
    if protocol.handshake_exc is not None:
        raise protocol.handshake_exc
    return sock


def open_consumer(wire: str, port: int) -> socket.socket:
    if wire == "ws":
        return open_websocket(port)
    if wire == "tcp":
        return socket.create_connection(("127.0.0.1", port), 10)
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.connect(("127.0.0.1", port))
    return sock


def take_all(wire: str, server: socket.socket, opened: ExitStack) -> list[bytes]:
    """Return the frames of all producers, those of the first one first."""
    if wire == "udp":
        return sorted((server.recv(65536) for _ in range(COUNT)), key=lambda message: message[:2])
    sources, protocols = [], []
    for _ in range(TRAFFIC.producers):
        sources.append(opened.enter_context(server.accept()[0]))
        sources[-1].settimeout(10)
        if wire == "ws":
            protocols.append(greeted(sources[-1]))
    share = COUNT // TRAFFIC.producers
    if wire == "tcp":
        shares = [lines_of(source, share) for source in sources]
    else:
        shares = [frames_of(*one, share) for one in zip(sources, protocols, strict=True)]
    return [frame for frames in shares for frame in frames]


def send_all(wire: str, consumer: socket.socket, frames: list[bytes]) -> None:
    if wire == "udp":
        for frame in frames:
            consumer.send(frame)
    else:
        consumer.sendall(b"".join(frames))
        consumer.shutdown(socket.SHUT_WR)


@contextmanager
def relay(wire: str, ports: list[int], damage: Damage) -> Iterator[int]:
    """A relay that keeps all frames until every producer has sent its share, and forwards them then."""
    over = threading.Event()
    with ExitStack() as opened:
        if wire == "udp":
            server = opened.enter_context(socket.socket(type=socket.SOCK_DGRAM))
            server.bind(("127.0.0.1", 0))
        else:
            server = opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        server.settimeout(10)
        consumers = [opened.enter_context(open_consumer(wire, port)) for port in ports]

        def forward() -> None:
            with ExitStack() as sources:
                frames = take_all(wire, server, sources)
                for consumer, sent in zip(consumers, (damage(list(frames)), frames), strict=True):
                    send_all(wire, consumer, sent)
                over.wait(10)  # to cut off a producer would be a finding of its own

        thread = threading.Thread(target=forward)
        thread.start()
        try:
            yield server.getsockname()[1]
        finally:
            over.set()
            thread.join()


def sent_through(damage: Damage, wire: str, in_python: bool, *, size: int = TRAFFIC.size) -> dict[str, Any]:
    traffic = replace(TRAFFIC, wire=wire, size=size)
    with LoadProcess(traffic, bound=30, python=in_python) as load, relay(wire, load.ports, damage) as port:
        load.begin(port, 0)
        result = load.result()
    untouched = result["consumers"][1]
    assert untouched["received"] == COUNT
    assert not any(untouched[fault] for fault in FAULTS)
    return result


# -- what is found on every wire -------------------------------------------------------------------


def found(result: dict[str, Any]) -> dict[str, int]:
    return {fault: result["consumers"][0][fault] for fault in FAULTS if result["consumers"][0][fault]}


def plain(wire: str, frame: bytes) -> bytes:
    """Return the message in a frame."""
    if wire != "ws":
        return frame.removesuffix(b"\n")
    key = frame[2:6] * (len(frame) // 4)
    return bytes(byte ^ one for byte, one in zip(frame[6:], key, strict=False))


def test_honest_relay(wire: str, in_python: bool) -> None:
    """Nothing is found where nothing is wrong, and the messages are those of the Python format."""
    seen: list[bytes] = []

    def look(frames: list[bytes]) -> list[bytes]:
        seen.extend(plain(wire, frame) for frame in frames)
        return frames

    result = sent_through(look, wire, in_python)

    form = Format(TRAFFIC.size)
    decoded = [form.decode(message) for message in seen]
    assert [(d[0], d[1]) if d else None for d in decoded] == [
        (c, s) for c in (0, 1) for s in range(COUNT // 2)
    ]
    assert result["end"] == "complete"
    assert result["intact"] is True


def test_loss(wire: str, in_python: bool) -> None:
    """Single losses, a run of them, and the very last message are all counted."""
    result = sent_through(
        lambda frames: [x for i, x in enumerate(frames) if i not in {0, 9, 50, 51, 52, 179}], wire, in_python
    )

    assert found(result) == {"lost": 6}
    assert result["intact"] is False
    assert faults([Run("tcp", "lossy", 0, False, {}, result)]) == ["tcp/lossy #0: lost=6"]


def test_doubling(wire: str, in_python: bool) -> None:
    """A message that comes again is doubled, at once or much later."""
    result = sent_through(
        lambda frames: [*frames[:5], frames[4], *frames[5:], frames[0], frames[100]], wire, in_python
    )

    assert found(result) == {"doubled": 3}
    assert result["intact"] is False


def test_reordering(wire: str, in_python: bool) -> None:
    """Messages that were overtaken are counted one by one, and are not lost."""
    result = sent_through(
        lambda frames: [*frames[:10], *frames[11:14], frames[10], *frames[14:]], wire, in_python
    )

    assert found(result) == {"reordered": 1}
    assert result["intact"] is False


def test_order_between_producers(wire: str, in_python: bool) -> None:
    """Each producer's own order counts; how they are mixed does not."""
    half = COUNT // 2
    mixed = sent_through(
        lambda frames: [x for two in zip(frames[half:], frames[:half], strict=True) for x in two],
        wire,
        in_python,
    )

    assert found(mixed) == {}


def test_corruption(wire: str, in_python: bool) -> None:
    """One changed byte anywhere makes a message corrupt, and the one that was sent is lost."""

    def spoil(frames: list[bytes]) -> list[bytes]:
        places = {"conn": 0, "seq": 5, "time": 12, "check": 17, "first of the fill": 18, "last": 39}
        for number, at in enumerate(places.values()):
            frame = bytearray(frames[number * 20])
            frame[HEAD[wire] + at] ^= 1
            frames[number * 20] = bytes(frame)
        return frames

    assert found(sent_through(spoil, wire, in_python)) == {"lost": 6, "corrupt": 6}


@pytest.mark.parametrize("size", [81, 82, 100, 146, 147])
def test_corruption_at_each_byte(size: int, in_python: bool) -> None:
    """However long the fill is, compared in pieces that overlap where the processor has wide ones."""

    def spoil(frames: list[bytes]) -> list[bytes]:
        for at in range(size):
            frame = bytearray(frames[at])
            frame[at] ^= 1
            frames[at] = bytes(frame)
        return frames

    assert found(sent_through(spoil, "tcp", in_python, size=size)) == {"lost": size, "corrupt": size}


def test_numbers_go_on(in_python: bool) -> None:
    """The messages of a producer are numbered on from digit to digit, as the Python format reads them."""
    traffic = replace(TRAFFIC, consumers=1, producers=1, count=1200)
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.create_server(("127.0.0.1", 0)) as server,
    ):
        server.settimeout(10)
        load.begin(server.getsockname()[1], 0)
        source, _ = server.accept()
        with source:
            lines = lines_of(source, traffic.count)

    decoded = [Format(traffic.size).decode(line[:-1]) for line in lines]
    assert [one and one[:2] for one in decoded] == [(0, seq) for seq in range(traffic.count)]


# -- what is found on one wire ---------------------------------------------------------------------


def test_joined_and_split_lines(in_python: bool) -> None:
    """A missing and an added newline are corruption, and what follows is read right again."""

    def spoil(lines: list[bytes]) -> list[bytes]:
        return [lines[0][:-1], *lines[1:50], lines[50][:20] + b"\n" + lines[50][20:], *lines[51:]]

    assert found(sent_through(spoil, "tcp", in_python)) == {"lost": 3, "corrupt": 3}


def test_wrong_frames(in_python: bool) -> None:
    """One of another kind or size, without a mask, or in fragments is corrupt; the next is read right."""

    def spoil(frames: list[bytes]) -> list[bytes]:
        message = plain("ws", frames[0])
        wrong = {
            0: masked(message, Opcode.BINARY),
            9: Frame(Opcode.TEXT, message).serialize(mask=False),
            50: masked(message[:-1]),
            51: masked(message * 2),
            52: masked(message * 5),
            53: masked(message * 2000),
            60: masked(message[:20], fin=False) + masked(message[20:], Opcode.CONT),
            70: bytes((frames[70][0] | 0x40,)) + frames[70][1:],
        }
        return [wrong.get(index, frame) for index, frame in enumerate(frames)]

    assert found(sent_through(spoil, "ws", in_python)) == {"lost": 8, "corrupt": 9}


def test_joined_and_cut_datagrams(in_python: bool) -> None:
    """Messages are not looked for in a datagram: one that is longer, shorter, or empty is corrupt."""

    def spoil(messages: list[bytes]) -> list[bytes]:
        return [messages[0] + messages[1], b"", messages[2][:-1], messages[3] + b"\n", *messages[4:]]

    assert found(sent_through(spoil, "udp", in_python)) == {"lost": 4, "corrupt": 4}


@pytest.mark.parametrize("wire", ["tcp", "ws"])
@pytest.mark.parametrize("size", [1, 5, 20])
def test_half_a_message(wire: str, size: int, in_python: bool) -> None:
    """A stream that ends inside a message is torn."""
    result = sent_through(lambda frames: [*frames[:-1], frames[-1][:size]], wire, in_python)

    assert found(result) == {"lost": 1, "torn": 1}


def test_half_a_wrong_frame(in_python: bool) -> None:
    """A stream that ends inside a frame that is skipped is torn, too."""
    result = sent_through(lambda frames: [*frames[:-1], masked(b"x" * 200)[:-1]], "ws", in_python)

    assert found(result) == {"lost": 1, "corrupt": 1, "torn": 1}


def test_what_a_websocket_has_to_say(in_python: bool) -> None:
    """A ping is answered by what it carries; it, a pong and a close are no messages, and not corrupt."""
    traffic = replace(TRAFFIC, consumers=1, wire="ws")
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        open_websocket(load.ports[0]) as consumer,
    ):
        consumer.sendall(masked(b"", Opcode.PONG) + masked(b"7" * 125, Opcode.PING))
        answer = consumer.recv(127, socket.MSG_WAITALL)
        consumer.sendall(masked(b"", Opcode.PING) + masked(b"\x03\xe8", Opcode.CLOSE))
        consumer.shutdown(socket.SHUT_WR)
        load.begin(load.ports[0], 0)
        result = load.result()

    assert answer == b"\x8a\x7d" + b"7" * 125
    assert result["intact"] is True


def test_no_websocket(in_python: bool) -> None:
    """Who sends something else than the request of a websocket to a consumer of websockets is found out."""
    traffic = replace(TRAFFIC, consumers=1, wire="ws")
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.create_connection(("127.0.0.1", load.ports[0])) as consumer,
    ):
        consumer.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        load.begin(load.ports[0], 0)
        result = load.result()

    assert found(result) == {"corrupt": 1}
    assert result["intact"] is False


def test_over_unix_sockets(in_python: bool) -> None:
    """Port N is the unix socket of that number; here, the load sends to its own consumer."""
    traffic = replace(TRAFFIC, consumers=1, wire="unix")
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.socket(socket.AF_UNIX) as asking,
    ):
        (port,) = load.ports
        asking.connect(str(unix_socket(port)))
        load.begin(port, 0)
        result = load.result()

    assert result["intact"] is True
    assert result["consumers"][0]["received"] == COUNT


def test_datagrams_under_way(in_python: bool) -> None:
    """No more datagrams are sent than find room, until some of them arrived."""
    traffic = replace(TRAFFIC, consumers=1, wire="udp", count=1000)
    with (
        LoadProcess(traffic, bound=30, python=in_python) as load,
        socket.socket(type=socket.SOCK_DGRAM) as server,
    ):
        server.bind(("127.0.0.1", 0))
        load.begin(server.getsockname()[1], 0)
        result = load.result()

    assert DATAGRAMS_UNDER_WAY - traffic.batch < result["sent"] <= DATAGRAMS_UNDER_WAY
    assert result["end"] == "idle"


def test_ledger_fills_holes() -> None:
    """A hole closes message by message, in any order, and what fills it twice is doubled."""
    form = Format(10)
    ledger = Ledger(form, 1)
    for seq in (0, 9, 5, 4, 1, 8, 5, 9, 2, 3, 6, 7):
        ledger.enter(form.encode(0, seq))

    assert (ledger.unique, ledger.reordered, ledger.doubled, ledger.corrupt) == (10, 8, 2, 0)

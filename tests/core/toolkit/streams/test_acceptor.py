"""Taking connections."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

from producer_pool.model.endpoint import Endpoint
from producer_pool.toolkit.sockets.binding import TcpBinding
from producer_pool.toolkit.streams.acceptor import Acceptor
from support.streams import connect, until


class Taker:
    """Keeps what an acceptor hands over."""

    def __init__(self) -> None:
        self.taken: list[socket.socket] = []
        self.said: list[str] = []
        self.acceptor = Acceptor(
            TcpBinding(Endpoint.parse("tcp://127.0.0.1:0"), allow_remote=False), self._admit, self._say
        )

    def _admit(self, sock: socket.socket, peer: object) -> None:
        assert sock.gettimeout() == 0
        self.taken.append(sock)

    def _say(self, cause: str, text: str) -> None:
        self.said.append(text)

    def close(self) -> None:
        self.acceptor.close()
        for sock in self.taken:
            sock.close()


async def test_every_connection_is_handed_over() -> None:
    """More than a turn takes come all the same."""
    taker = Taker()
    endpoint = await taker.acceptor.open()
    clients = await asyncio.gather(*(connect(endpoint) for _ in range(200)))
    await until(lambda: len(taker.taken) == 200)
    taker.close()
    for client in clients:
        client.close()


async def test_closing_takes_those_who_are_there() -> None:
    """Who has connected before the end is not turned away by it, though nobody had looked yet."""
    taker = Taker()
    endpoint = await taker.acceptor.open()
    clients = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(70)]
    taker.acceptor.close()
    taker.acceptor.close()

    assert len(taker.taken) == 70
    for one in (*clients, *taker.taken):
        one.close()


async def test_closing_comes_to_an_end() -> None:
    """However fast others connect: those are taken who can have been there, and no more."""
    taker = Taker()
    endpoint = await taker.acceptor.open()
    place = (endpoint.host, endpoint.port)
    taken = 0

    def admit(sock: socket.socket, peer: object) -> None:
        nonlocal taken
        taken += 1
        sock.close()
        if taken < 3000:
            socket.create_connection(place).close()

    taker.acceptor._admit = admit
    socket.create_connection(place).close()
    taker.acceptor.close()

    assert 1024 < taken < 1200


async def test_those_who_wait_are_taken_at_once() -> None:
    """Not in the loop's next turn; of very many, as many as in a turn. The others come as ever."""
    taker = Taker()
    endpoint = await taker.acceptor.open()
    clients = [socket.create_connection((endpoint.host, endpoint.port)) for _ in range(100)]
    taker.acceptor.take_waiting()
    at_once = len(taker.taken)
    await until(lambda: len(taker.taken) == 100)
    taker.acceptor.take_waiting()
    taker.close()
    taker.acceptor.take_waiting()

    assert 0 < at_once < 100
    assert len(taker.taken) == 100
    for client in clients:
        client.close()


async def test_letting_go_while_listening() -> None:
    """What a binding made besides sockets goes first, and once, while nobody can take it for left behind."""
    taker = Taker()
    endpoint = await taker.acceptor.open()
    released = []

    def release() -> None:
        released.append(socket.create_connection((endpoint.host, endpoint.port)))

    taker.acceptor._binding.release = release  # type: ignore[method-assign]
    taker.acceptor.close()
    taker.close()

    assert len(released) == 1
    assert len(taker.taken) == 1
    released[0].close()


OUT_OF_FILES = """
import asyncio, json, logging, os, resource, socket
from producer_pool.plugin import *

class Intake:
    paused = False
    messages = 0
    def feed(self, batch):
        self.messages += len(batch)
    async def resumed(self):
        pass

class Lines(logging.Handler):
    count = 0
    def emit(self, record):
        self.count += 1
        self.last = record.getMessage()

tries = 0
accept = Acceptor._accept
def counted(self, listening):
    global tries
    tries += 1
    return accept(self, listening)
Acceptor._accept = counted

async def main():
    lines = Lines()
    logging.getLogger().addHandler(lines)
    intake = Intake()
    listener = StreamListener(
        TcpBinding(Endpoint.parse("tcp://127.0.0.1:0"), allow_remote=False), StreamListenerOptions()
    )
    endpoint = await listener.start(intake)
    clients = []
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    for _ in range(20):
        client = socket.socket()
        client.setblocking(False)
        clients.append(client)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(map(int, os.listdir("/proc/self/fd"))) + 6, hard))
    for client in clients:
        client.connect_ex((endpoint.host, endpoint.port))
    began = asyncio.get_running_loop().time()
    await asyncio.sleep(1.5)
    spun, waited = tries, asyncio.get_running_loop().time() - began
    before = listener.stats.accepted
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
    for client in clients:
        client.send(b"hello\\n")
    while intake.messages < 20:
        await asyncio.sleep(0.01)
    after = listener.stats.accepted
    seen = dict(tries=spun, waited=waited, before=before, lines=lines.count, last=lines.last, after=after)
    print(json.dumps(seen | dict(seconds=asyncio.get_running_loop().time() - began)))
    await listener.aclose()

async def bounded():
    async with asyncio.timeout(20):
        await main()
asyncio.run(bounded())
"""


def test_no_more_file_descriptors() -> None:
    """Those who are in stay, the others wait, nothing spins, one line a second says so; later all get in."""
    done = subprocess.run(
        [sys.executable, "-c", OUT_OF_FILES], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)

    assert 0 < seen["before"] < 20
    assert seen["after"] == 20
    assert 1 <= seen["lines"] <= 1 + seen["seconds"]
    assert "no new connections for now: too many open files; raise `ulimit -n`" in seen["last"]
    assert seen["tries"] < 20 * (1 + seen["waited"])

"""Animals that keep the event loop for themselves, or leave it to pick up the pieces."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from time import sleep

from producer_pool.plugin import resolve
from support.zoo.animal import animal, cleaning
from support.zoo.healthy import PlainClient


@animal(
    "never-blocks-the-loop",
    says=r"send\(\) to a consumer that reads: nothing else ran .*, in write\(\) \(zoo/loop\.py, line \d+\)",
)
class SleepsLong(PlainClient):
    """send() sleeps, and with it everybody else."""

    async def write(self, wire: bytes) -> None:
        if b"00000002" in wire:
            sleep(2)
        await super().write(wire)


@animal(
    "never-blocks-the-loop",
    says=r"time\.sleep\(\) is called on the event loop, in connect\(\) \(zoo/loop\.py, line \d+\)",
)
class SleepsALittle(PlainClient):
    """connect() sleeps so shortly that nobody notices."""

    async def connect(self) -> None:
        await super().connect()
        time.sleep(0.001)


@animal(
    "never-blocks-the-loop",
    says=r"connect\(\) to a host that does not answer: nothing else ran .*, in dial\(\) \(zoo/loop\.py, line",
)
class ConnectsAsIfItWereAlone(PlainClient):
    """connect() waits in the kernel until the other side answers."""

    async def dial(self) -> socket.socket:
        address = (await resolve(self.host, self.port))[-1]
        sock = socket.socket(address.family, socket.SOCK_STREAM)
        try:
            sock.settimeout(20)
            sock.connect(address.sockaddr)
        except OSError as error:
            sock.close()
            raise OSError(error.errno, str(error)) from None
        sock.setblocking(False)
        return sock


@animal(
    "never-blocks-the-loop",
    says=r"connect\(\) to a consumer that has a name: socket\.getaddrinfo\(\) is called .* in dial\(\) \(zoo",
)
class LooksNamesUpItself(PlainClient):
    """connect() asks the name server, and waits for it."""

    async def dial(self) -> socket.socket:
        self.host = str(socket.getaddrinfo(self.host, self.port, socket.AF_INET)[0][4][0])
        return await super().dial()


@animal(
    "keeps-exceptions-to-itself", says=r"\d exceptions were seen by nobody, .*RuntimeError\('nobody awaits"
)
class LeavesATaskThatFailed(PlainClient):
    """connect() starts a task, whose exception nobody sees."""

    async def connect(self) -> None:
        await super().connect()
        self.task = asyncio.ensure_future(self.fail())

    async def fail(self) -> None:
        raise RuntimeError("nobody awaits this")


@animal("keeps-exceptions-to-itself", says=r"exceptions were seen by nobody, .*AttributeError")
class CallsBackInTheEnd(PlainClient):
    """A callback comes after aclose(), and does not expect that."""

    async def aclose(self) -> None:
        if self.socket is not None:
            asyncio.get_running_loop().call_soon(self.look)
        await super().aclose()

    def look(self) -> None:
        assert self.socket is None
        self.socket.fileno()  # type: ignore[attr-defined]


@animal("keeps-exceptions-to-itself", says=r"exceptions were seen by nobody, .*in a thread: ValueError")
class FailsInAThread(PlainClient):
    """What goes wrong in its thread stays there."""

    async def connect(self) -> None:
        await super().connect()
        thread = threading.Thread(target=int, args=("nothing",))
        thread.start()
        while thread.is_alive():
            await asyncio.sleep(0)


@animal("leaves-the-program-alone", says=r"socket\.getdefaulttimeout\(\) changed, from None to 10\.0")
class SetsATimeoutForAll(PlainClient):
    """So that its library does not wait for ever, no socket of the program does."""

    async def connect(self) -> None:
        if socket.getdefaulttimeout() is None:
            socket.setdefaulttimeout(10)
            cleaning.append(lambda: socket.setdefaulttimeout(None))
        await super().connect()

"""Animals that begin or end badly, or leave something behind."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from functools import partial

from producer_pool.plugin import ConnectError, Connection, Endpoint, Intake
from support.zoo.animal import animal, cleaning
from support.zoo.healthy import PipelinedClient, PlainClient, ZooListener


@animal("closes-before-it-connected", says=r"aclose\(\) before connect\(\) raised AttributeError")
class ClosesOnlyWhatIsThere(PlainClient):
    """aclose() of a client that was never connected raises."""

    async def aclose(self) -> None:
        if self.inside or self.__dict__.pop("connected", False):
            await super().aclose()
        else:
            self.socket.close()  # type: ignore[union-attr]

    async def connect(self) -> None:
        self.socket = await self.dial()
        self.connected = True


@animal("closes-twice", says=r"the second aclose\(\) raised RuntimeError: closed already")
class SecondCloseRaises(PlainClient):
    """A second aclose() raises."""

    closed = False

    async def connect(self) -> None:
        self.closed = False
        await super().connect()

    async def aclose(self) -> None:
        if self.closed:
            raise RuntimeError("closed already")
        self.closed = self.socket is not None
        await super().aclose()


@animal("connects-again", says=r"raised ConnectError: it was used already")
class ConnectsOnce(PipelinedClient):
    """It cannot be connected a second time."""

    used = False

    async def connect(self) -> None:
        if self.used:
            raise ConnectError("it was used already")
        self.used = True
        await super().connect()


@animal("arrives-before-the-end", says=r"\d+ of 20 messages did not arrive")
class ForgetsItsBuffer(PlainClient):
    """send() returns before anything is written, and aclose() throws away what is not."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.buffer: list[bytes] = []

    async def write(self, wire: bytes) -> None:
        self.buffer.append(wire)
        asyncio.get_running_loop().call_later(0.005, self.flush)

    def flush(self) -> None:
        if self.socket is not None and self.buffer:
            self.socket.send(self.buffer.pop(0))

    async def aclose(self) -> None:
        self.buffer.clear()
        await super().aclose()


@animal("arrives-before-the-end", says=r"1 of 20 messages did not arrive, such as b'00000019 ")
class KeepsTheLastMessage(PlainClient):
    """A message goes out when the next one comes: the last one never does."""

    kept = b""

    async def write(self, wire: bytes) -> None:
        wire, self.kept = self.kept, wire
        if wire:
            await super().write(wire)


@animal("leaks-no-descriptor", says=r"1\d file descriptors are left after 12 connections")
class LeaksADescriptor(PipelinedClient):
    """Each connection leaves a file descriptor open."""

    async def connect(self) -> None:
        await super().connect()
        assert self._socket is not None
        cleaning.append(partial(os.close, os.dup(self._socket.fileno())))


@animal("leaks-no-descriptor", says="1[0-9] left to the garbage collector: unclosed <socket")
class LeavesItToTheCollector(PlainClient):
    """It lets go of its socket without closing it."""

    async def aclose(self) -> None:
        self.socket = None


@animal("leaks-no-task", says=r"1\d tasks are left after 12 connections")
class LeaksATask(PipelinedClient):
    """Each connection leaves a task behind, which waits for ever."""

    async def connect(self) -> None:
        await super().connect()
        self.watching = asyncio.create_task(asyncio.sleep(3600))


@animal("leaks-no-thread", says=r"1\d threads are left after 12 connections")
class LeaksAThread(PlainClient):
    """Each connection leaves a thread behind, which waits for ever."""

    async def connect(self) -> None:
        await super().connect()
        over = threading.Event()
        thread = threading.Thread(target=over.wait, daemon=True)
        thread.start()
        cleaning.extend([thread.join, over.set])


@animal("listener-closes-twice", says=r"the second aclose\(\) raised KeyError")
class SecondCloseOfListenerRaises(ZooListener):
    """A second aclose() of the listener raises."""

    async def aclose(self) -> None:
        if self._started or not hasattr(self, "_loop"):
            await super().aclose()
        else:
            raise KeyError("it is not in the table any more")


@animal("listener-tells-its-address", says=r"start\(\) returned zoo://127.0.0.1:0, where nobody can connect")
class TellsWhereItWasAskedToListen(ZooListener):
    """start() returns what it was asked for, and not what it got."""

    async def start(self, intake: Intake) -> Endpoint:
        return (await super().start(intake)).at("127.0.0.1", 0)


@animal("listener-frees-its-address", says=r"could not be listened at again: ListenError")
class KeepsItsAddress(ZooListener):
    """The socket that it listened at stays open."""

    async def start(self, intake: Intake) -> Endpoint:
        endpoint = await super().start(intake)
        cleaning.append(partial(os.close, os.dup(self._acceptor._sockets[0].fileno())))
        return endpoint


@animal("listener-drains-what-has-arrived", says=r"\d+ of 20 messages did not arrive")
class DoesNotDrain(ZooListener):
    """drain() reads no more, and forgets what has arrived and was not read."""

    async def drain(self) -> None:
        self._stop_reading()


@animal("listener-stops-accepting-alone", says="did not arrive")
class StopsAltogether(ZooListener):
    """stop_accepting() ends the connections, too."""

    async def stop_accepting(self) -> None:
        await self.aclose()


@animal("listener-leaves-nothing", says=r"1\d file descriptors are left after 12 listeners were closed")
class ListenerLeaksADescriptor(ZooListener):
    """Each start of the listener leaves a file descriptor open."""

    async def start(self, intake: Intake) -> Endpoint:
        cleaning.append(partial(os.close, os.open(os.devnull, os.O_RDONLY)))
        return await super().start(intake)


@animal("listener-leaves-nothing", says=r"1\d tasks are left after 12 listeners were closed")
class ListenerLeaksATask(ZooListener):
    """Each connection that the listener took leaves a task behind."""

    def _connection(self, sock: socket.socket, origin: str) -> Connection:
        self.watching = asyncio.create_task(asyncio.sleep(3600))
        return super()._connection(sock, origin)

"""The websocket plugin keeps the rules that every transport keeps."""

from __future__ import annotations

import logging
import socket
import ssl
from typing import ClassVar

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from producer_pool.testing import TransportConformance, Trial, TrialConsumer
from support.certificates import Authority
from support.dialing import EXCUSED, PATIENT, DialingConsumer

_silent = logging.getLogger(__name__)
_silent.disabled = True  # The library writes messages into its log, and the suite looks for them there.


class TestWs(TransportConformance):
    url = "ws://127.0.0.1:0"


class TestWsWithEveryMessage(TransportConformance):
    """Frames that can carry all there is, so that nothing is Rejected; and a path."""

    url = "ws://127.0.0.1:0/in"
    client_options: ClassVar = {"frames": "binary"}


class TestWsCompressed(TransportConformance):
    """Messages that are shorter on the wire, so that more of them are on their way."""

    url = "ws://127.0.0.1:0"
    client_options: ClassVar = {"compression": "deflate"}
    listener_options: ClassVar = {"compression": "deflate"}


class TestWss(TransportConformance):
    url = "wss://127.0.0.1:0"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        authority = Authority(tmp_path_factory.mktemp("ca"))
        here = authority.issue()
        cls.client_options = {"tls-ca": str(authority.file)}
        cls.listener_options = {"tls-cert": str(here.cert), "tls-key": str(here.key)}


class DialingWebsocket(DialingConsumer):
    """A program with a websocket library, which connects to a client that listens."""

    _websocket: ClientConnection | None = None

    def pause(self) -> None:
        super().pause()
        self._follow()

    def resume(self) -> None:
        super().resume()
        self._follow()

    def _follow(self) -> None:
        """Have the library read, and answer pings, only as long as it is to."""
        if self._websocket is not None:
            transport = self._websocket.transport
            (transport.resume_reading if self.reads else transport.pause_reading)()

    async def listen(self, sock: socket.socket) -> None:
        try:
            self._websocket = websocket = await connect(
                f"{'ws' if self.tls is None else 'wss'}://127.0.0.1/",
                sock=sock,
                ssl=self.tls,
                proxy=None,
                max_size=None,
                max_queue=None,
                ping_interval=None,
                logger=_silent,
            )
        except WebSocketException:
            return
        try:
            self.connected()
            self._follow()
            while True:
                self.received.append(await websocket.recv(decode=False))
        except ConnectionClosed:
            return
        finally:
            self._websocket = None
            websocket.transport.abort()


class TestWsServe(TransportConformance):
    """A client that listens, and a consumer that connects to it."""

    url = "ws+serve://127.0.0.1:0"
    client_options: ClassVar = PATIENT
    excused: ClassVar = EXCUSED

    def consumer(self, trial: Trial) -> TrialConsumer:
        return DialingWebsocket(trial)


class TestWssServe(TransportConformance):
    """The same, encrypted."""

    url = "wss+serve://127.0.0.1:0"
    excused: ClassVar = EXCUSED
    tls: ClassVar[ssl.SSLContext]

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        authority = Authority(tmp_path_factory.mktemp("ca"))
        here = authority.issue()
        cls.client_options = {**PATIENT, "tls-cert": str(here.cert), "tls-key": str(here.key)}
        cls.tls = ssl.create_default_context(cafile=authority.file)

    def consumer(self, trial: Trial) -> TrialConsumer:
        return DialingWebsocket(trial, self.tls)

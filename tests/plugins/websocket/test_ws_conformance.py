"""The websocket plugin keeps the rules that every transport keeps."""

from __future__ import annotations

from typing import ClassVar

from producer_pool.testing import TransportConformance
from support.secure_conformance import SecureConformance, SecureServingConformance


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


class TestWss(SecureConformance):
    url = "wss://127.0.0.1:0"


class TestWsServe(TransportConformance):
    """A client that listens, and a consumer that connects to it."""

    url = "ws+serve://127.0.0.1:0/out?peer-buffer=64MiB"


class TestWssServe(SecureServingConformance):
    """The same, encrypted."""

    url = "wss+serve://127.0.0.1:0?peer-buffer=64MiB"

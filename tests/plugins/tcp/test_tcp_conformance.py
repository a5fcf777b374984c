"""The tcp plugin keeps the rules that every transport keeps."""

from __future__ import annotations

from typing import ClassVar

from producer_pool.testing import TransportConformance
from support.secure_conformance import SecureConformance, SecureServingConformance


class TestTcp(TransportConformance):
    url = "tcp://127.0.0.1:0"


class TestTcpWithEveryMessage(TransportConformance):
    """A framing that can carry all there is, so that nothing is Rejected."""

    url = "tcp://127.0.0.1:0"
    client_options: ClassVar = {"framing": "length4"}
    listener_options: ClassVar = {"framing": "length4"}


class TestTcpServe(TransportConformance):
    """A client that listens, and a consumer that connects to it."""

    url = "tcp+serve://127.0.0.1:0?peer-buffer=64MiB"


class TestTcpTls(SecureConformance):
    url = "tcp+tls://127.0.0.1:0"


class TestTcpTlsServe(SecureServingConformance):
    """The same, encrypted."""

    url = "tcp+tls+serve://127.0.0.1:0?peer-buffer=64MiB"

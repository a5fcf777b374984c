"""The websocket plugin keeps the rules that every transport keeps."""

from __future__ import annotations

from typing import ClassVar

import pytest

from producer_pool.testing import TransportConformance
from support.certificates import Authority


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

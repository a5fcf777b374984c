"""The tcp plugin keeps the rules that every transport keeps."""

from __future__ import annotations

import ssl
from typing import ClassVar

import pytest

from producer_pool.testing import TransportConformance, Trial, TrialConsumer
from support.certificates import Authority
from support.dialing import EXCUSED, PATIENT, DialingConsumer


class TestTcp(TransportConformance):
    url = "tcp://127.0.0.1:0"


class TestTcpWithEveryMessage(TransportConformance):
    """A framing that can carry all there is, so that nothing is Rejected."""

    url = "tcp://127.0.0.1:0"
    client_options: ClassVar = {"framing": "length4"}
    listener_options: ClassVar = {"framing": "length4"}


class TestTcpServe(TransportConformance):
    """A client that listens, and a consumer that connects to it."""

    url = "tcp+serve://127.0.0.1:0"
    client_options: ClassVar = PATIENT
    excused: ClassVar = EXCUSED

    def consumer(self, trial: Trial) -> TrialConsumer:
        return DialingConsumer(trial)


class TestTcpTls(TransportConformance):
    url = "tcp+tls://127.0.0.1:0"

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        authority = Authority(tmp_path_factory.mktemp("ca"))
        here = authority.issue()
        cls.client_options = {"tls-ca": str(authority.file)}
        cls.listener_options = {"tls-cert": str(here.cert), "tls-key": str(here.key)}


class TestTcpTlsServe(TransportConformance):
    """The same, encrypted."""

    url = "tcp+tls+serve://127.0.0.1:0"
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
        return DialingConsumer(trial, self.tls)

"""The conformance suite for protocols with TLS: each class of tests has certificates of its own."""

from __future__ import annotations

import pytest

from producer_pool.testing import TransportConformance
from support.certificates import Authority

__all__ = ["SecureConformance", "SecureServingConformance"]


class SecureConformance(TransportConformance):
    """Listeners have a certificate, and clients the authority that issued it."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        authority = Authority(tmp_path_factory.mktemp("ca"))
        here = authority.issue()
        cls.client_options = {**cls.client_options, "tls-ca": str(authority.file)}
        cls.listener_options = {
            **cls.listener_options,
            "tls-cert": str(here.cert),
            "tls-key": str(here.key),
        }


class SecureServingConformance(TransportConformance):
    """The client has the certificate, as it is the one who listens."""

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def _certificates(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        here = Authority(tmp_path_factory.mktemp("ca")).issue()
        cls.client_options = {**cls.client_options, "tls-cert": str(here.cert), "tls-key": str(here.key)}

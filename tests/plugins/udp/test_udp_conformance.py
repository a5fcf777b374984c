"""The udp plugin keeps the rules that every transport keeps."""

from __future__ import annotations

from producer_pool.testing import TransportConformance


class TestUdp(TransportConformance):
    """With every byte of a message as it was sent: otherwise a newline is taken off its end."""

    url = "udp://127.0.0.1:0?strip=no"

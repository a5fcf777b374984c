"""The unix plugin keeps the rules that every transport keeps."""

from __future__ import annotations

import os
import sys
from typing import ClassVar

import pytest

from producer_pool.testing import TransportConformance


class TestUnix(TransportConformance):
    url = "unix://{tmp}/consumer.sock"


class TestUnixWithLengths(TransportConformance):
    """With a framing that carries every message."""

    url = "unix://{tmp}/consumer.sock"
    client_options: ClassVar = {"framing": "length4"}
    listener_options: ClassVar = {"framing": "length4"}


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: names without files")
class TestUnixWithoutAFile(TransportConformance):
    url = f"unix:@conformance-{os.getpid()}"


class TestUnixDatagrams(TransportConformance):
    """As they are sent: a listener would take a newline off the end of each."""

    url = "unix+dgram://{tmp}/consumer.sock"
    listener_options: ClassVar = {"strip": "no"}


class TestUnixServe(TransportConformance):
    """A client that listens, and a consumer that connects to it."""

    url = "unix+serve://{tmp}/consumers.sock?peer-buffer=64MiB"


class TestUnixServeWithLengths(TransportConformance):
    """With a framing that carries every message."""

    url = "unix+serve://{tmp}/consumers.sock?peer-buffer=64MiB"
    client_options: ClassVar = {"framing": "length4"}

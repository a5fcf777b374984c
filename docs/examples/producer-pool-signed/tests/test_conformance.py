"""Everything that Producer Pool expects of a transport, a test for each rule."""

from pathlib import Path
from typing import ClassVar

from producer_pool.testing import TransportConformance

KEY = Path(__file__).with_name("test.key")


class TestSigned(TransportConformance):
    url = "signed://127.0.0.1:0"
    client_options: ClassVar = {"key-file": str(KEY)}
    listener_options: ClassVar = {"key-file": str(KEY)}

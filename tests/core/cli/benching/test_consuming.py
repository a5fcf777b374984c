"""Which consumers a bench reads for by itself, and which listen as their protocol does."""

from pathlib import Path

import pytest

from producer_pool.cli.benching.certificate import make_certificate
from producer_pool.discovery.factory import ClientFactory
from producer_pool.model.framing import LENGTH4, LINES
from producer_pool.toolkit.streams.listener import StreamListener


@pytest.mark.parametrize(
    "url,framing",
    [
        ("tcp://127.0.0.1:0", LINES),
        ("tcp://127.0.0.1:0?framing=length4", LENGTH4),
        ("unix:{tmp}/s", LINES),
        ("tcp://127.0.0.1:0?ack-after=received", None),
        ("tcp+tls://127.0.0.1:0?tls-cert={tmp}/bench.pem&tls-key={tmp}/bench.key", None),
        ("ws://127.0.0.1:0", None),
    ],
)
def test_plain_streams(url: str, framing: object, tmp_path: Path) -> None:
    """A stream is plain if both ends agree on nothing but where a message ends."""
    make_certificate(tmp_path)
    listener = ClientFactory().listener(url.replace("{tmp}", str(tmp_path)))

    assert isinstance(listener, StreamListener)
    assert (listener.plain or (None, None))[1] is framing

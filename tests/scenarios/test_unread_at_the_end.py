"""A consumer that closes with messages unread, when its producer ends in good order: that is said."""

import logging
import select
import sys
import threading
from pathlib import Path

import pytest

from producer_pool import DeliveryPolicy, ProducerPool
from producer_pool.toolkit.streams import client
from support.consumers import RecordingConsumer
from support.processes import daemon
from support.producers import send_lines
from support.waiting import BOUND, eventually

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: SIOCOUTQ")

SAID = "the consumer closed its last connection before it had read everything"

PATIENT = f"""
from producer_pool.plugin import hookimpl
from producer_pool.toolkit.streams import client

client._LINGER = {BOUND}

@hookimpl
def producer_pool_transports():
    return ()
"""
"""A plugin by which the daemon waits for the end of a consumer for as long as a busy machine may take."""


def until_told(consumer: RecordingConsumer) -> None:
    """Wait until the producer has ended its side of the connection, which the consumer does not look at."""
    (sock,) = consumer._open
    poller = select.poll()
    poller.register(sock, select.POLLRDHUP)
    eventually(lambda: poller.poll(0), "the producer ends its side")


@pytest.mark.parametrize("ack", ["kernel", "written"])
@pytest.mark.parametrize("reads", [False, True])
@pytest.mark.parametrize("how", ["close", "remove_producer"])
def test_pool_ends(
    how: str, reads: bool, ack: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By close() or remove_producer(): a line names the address. At WRITTEN nobody asks."""
    monkeypatch.setattr(client, "_LINGER", BOUND)
    with RecordingConsumer() as consumer, ProducerPool(policy=DeliveryPolicy.relay()) as pool:
        pool.add_producer("audit", f"{consumer.url}?ack={ack}")
        assert pool.forward_to("audit", "first").ok
        eventually(lambda: consumer.messages, "the first message")
        if not reads:
            consumer.stop_reading()
        assert pool.forward_to("audit", "second").ok
        ends = {"close": pool.close, "remove_producer": lambda: pool.remove_producer("audit")}
        ending = threading.Thread(target=ends[how])
        ending.start()
        if not reads:
            until_told(consumer)
            consumer.end_connections()
        ending.join()
        eventually(lambda: not consumer.connections, "the connection ends")
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]

    asked = ack == "kernel" and not reads
    assert [line for line in lines if SAID in line and consumer.url in line] == lines
    assert len(lines) == asked


def test_daemon_ends(tmp_path: Path) -> None:
    """By SIGTERM: it says so in its log, and that it is done in its exit code, for all was acknowledged."""
    plugin = tmp_path / "patient.py"
    plugin.write_text(PATIENT)
    arguments = ("--plugin", str(plugin), "--drain", f"{BOUND}s")
    with RecordingConsumer() as consumer, daemon("--to", f"audit={consumer.url}", *arguments) as running:
        send_lines(running.port, [b"first"])
        running.settled("audit", 1)
        eventually(lambda: consumer.messages, "the first message")
        consumer.stop_reading()
        send_lines(running.port, [b"second"])
        running.settled("audit", 2)
        running.process.terminate()
        until_told(consumer)
        consumer.end_connections()

        assert running.wait() == 0, running.said
        assert f"WARNING {consumer.url}: {SAID}" in running.said

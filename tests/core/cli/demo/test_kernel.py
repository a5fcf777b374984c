"""What the kernel tells of receive buffers."""

import socket
import sys
from pathlib import Path

import pytest

from producer_pool.cli.demo.kernel import unread
from support.waiting import eventually

TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:2328 00000000:0000 0A 00000000:00000005 00:00000000 00000000     0        0 1 1 0 100 0 0 10 0
   1: 0100007F:2328 0100007F:B219 01 00000007:00004268 00:00000000 00000000     0        0 2 1 0 20 4 30 10 -1
   2: 0100007F:B219 0100007F:2328 01 00000001:00000000 00:00000000 00000000     0        0 3 1 0 20 4 30 10 -1
   3: 0100007F:2328 0100007F:B21A 06 00000000:00000009 03:00001152 00000000     0        0 0 3 0
"""


def test_table(tmp_path: Path) -> None:
    """Only established connections to that port count, by their receive queue."""
    table = tmp_path / "tcp"
    table.write_text(TABLE)

    assert unread(9000, table) == 0x4268
    assert unread(1, table) == 0


def test_system_without_a_table(tmp_path: Path) -> None:
    """Where there is none, it cannot be told."""
    assert unread(9000, tmp_path / "nothing") is None


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no /proc/net/tcp")
def test_real_connection() -> None:
    """What was sent and not read is what the kernel tells, to the byte."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as sender:
            receiver, _ = server.accept()
            with receiver:
                sender.sendall(b"x" * 12_345)

                eventually(lambda: unread(port) == 12_345, "12,345 bytes unread")
                receiver.recv(345)
                assert unread(port) == 12_000

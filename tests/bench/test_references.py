"""What the relay is compared with forwards everything, too: a yardstick that loses would be too fast."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench import build
from bench.relays import RELAYS, UnavailableError
from bench.traffic import LoadProcess, Traffic

TRAFFIC = Traffic(size=128, consumers=3, producers=2, batch=20, count=2000, idle=5.0)
IN_C = ("C", "C-unix", "C-websocket", "C-udp") if build.compiler() else ()


@pytest.mark.parametrize("name", ["naive", "naive-udp", *IN_C])
@pytest.mark.parametrize("size", [20, 128])
def test_reference_forwards_everything(name: str, size: int) -> None:
    """Every message of every producer arrives once, whole and in order, at every consumer."""
    relay = RELAYS[name]
    with LoadProcess(replace(TRAFFIC, wire=relay.wire, size=size), bound=30) as load:
        child, port = relay.start(load.ports, core=None, bound=40)
        with child:
            load.begin(port, child.pid)
            result = load.result()

    assert result["intact"] is True
    assert [consumer["received"] for consumer in result["consumers"]] == [TRAFFIC.count] * TRAFFIC.consumers


def test_no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without one, the references are skipped, and the reason says what to install."""
    monkeypatch.setenv("CC", "")

    with pytest.raises(UnavailableError, match="no C compiler; install gcc or set CC"):
        RELAYS["C-websocket"].start([9], core=None, bound=1)
    assert build.compiler() is None

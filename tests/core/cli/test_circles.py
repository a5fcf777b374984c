"""Daemons that would forward to themselves."""

import pytest

from producer_pool.cli.circles import circles
from producer_pool.discovery.config import Settings


def found(to: str, *listen: str) -> list[str]:
    return list(circles(Settings.read({}, to=[to], flags={"listen": listen}).for_daemon()))


@pytest.mark.parametrize(
    "to, listen",
    [
        ("tcp://127.0.0.1:9100", []),
        ("tcp://127.0.0.1:9100?timeout=2s&buffer=1MiB", []),
        ("TCP://LOCALHOST:9100/", []),
        ("tcp://[::1]:1", ["tcp://h:1", "tcp://0.0.0.0:1"]),
        ("tcp://h:1", ["tcp://h:1"]),
        ("ws://127.0.0.1:1/a", ["ws://127.0.0.1:1/a"]),
        ("unix:///run/x.sock", ["unix:/run/x.sock"]),
        ("unix:@x", ["unix:@x"]),
    ],
)
def test_own_listener(to: str, listen: list[str]) -> None:
    """Each message would come back: it is said of what, and what to do."""
    (text,) = found(to, *listen)

    assert text.startswith("--to: ")
    assert f"is where this daemon listens itself ({'--listen' if listen else 'default'})" in text
    assert text.endswith("forward to another address, or listen at another one")


@pytest.mark.parametrize(
    "to, listen",
    [
        ("tcp://127.0.0.1:9000", []),
        ("udp://127.0.0.1:9100", []),
        ("tcp://10.0.0.5:9100", []),
        ("tcp://127.0.0.1:0", ["tcp://127.0.0.1:0"]),
        ("ws://127.0.0.1:1/a", ["ws://127.0.0.1:1/b"]),
        ("unix:///run/y.sock", ["unix:///run/x.sock"]),
        ("queue://h:1/?name=out", ["queue://h:1/?name=in"]),
        ("queue://h:1", ["queue://h:1/?name=in"]),
        ("null:", ["null:"]),
    ],
)
def test_another_place(to: str, listen: list[str]) -> None:
    """Nothing is said of what may be another place: a server may have several, by path or by option."""
    assert found(to, *listen) == []


def test_secret_in_a_circle() -> None:
    """It is not shown."""
    (text,) = found("tcp://user:hunter2@127.0.0.1:9100")

    assert "hunter2" not in text


@pytest.mark.parametrize("way", ["all", "one"])
def test_dead_letters_in_a_circle(way: str) -> None:
    """Dead letters that come back as messages would become dead letters, for ever."""
    place = "ws://user:hunter2@127.0.0.1:1/"
    to = "null:" if way == "all" else "null:?dead-letters=ws%3A//user%3Ahunter2%40127.0.0.1%3A1/"
    flags = {"listen": ["ws://127.0.0.1:1/"], "dead-letters": place if way == "all" else None}
    (text,) = circles(Settings.read({}, to=[to], flags=flags).for_daemon())

    assert "is where this daemon listens itself (--listen): each dead letter would come back" in text
    assert text.startswith("--dead-letters: ws://***@" if way == "all" else "--to: dead-letters: ws://***@")
    assert "hunter2" not in text


@pytest.mark.parametrize("place", ["letters", "tcp://127.0.0.1:9009", "tcp:", "127.0.0.1:9100"])
def test_dead_letters_elsewhere(place: str) -> None:
    """Nothing is said of folders, of other addresses, and of what is told of elsewhere."""
    assert list(circles(Settings.read({}, flags={"dead-letters": place}).for_daemon())) == []

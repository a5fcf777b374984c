"""A browser as producer and consumer: pages talk to the daemon, both ways, as far as it lets them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from support.browser import opened, served
from support.processes import daemon
from support.waiting import eventually

pytestmark = [pytest.mark.needs("chromium"), pytest.mark.xdist_group("browser"), pytest.mark.timeout(120)]

MESSAGES = ["hello", "", "größer als 1 €, 漢字, 🧭", "two\nlines", "null\x00inside", "x" * 70_000]

PAGE = """<!doctype html>
<title>producer and consumer</title>
<script>
const places = new URLSearchParams(location.search);
const report = (what) => fetch("/report", { method: "POST", body: JSON.stringify(what) });
const wanted = MESSAGES;
const got = [];
const consumer = new WebSocket(places.get("consumer"));
consumer.onmessage = (event) => {
    got.push(event.data);
    if (got.length === wanted.length) report({ got });
};
consumer.onopen = () => {
    const producer = new WebSocket(places.get("producer"));
    producer.onopen = () => wanted.forEach((message) => producer.send(message));
    producer.onerror = () => report({ refused: "producer" });
};
consumer.onerror = () => report({ refused: "consumer" });
</script>
""".replace("MESSAGES", json.dumps(MESSAGES))


def address(origin: str, producer: str, consumer: str) -> str:
    """Return the address of the page that is told where to send to, and where to get it all."""
    return f"{origin}/?producer={quote(producer, safe='')}&consumer={quote(consumer, safe='')}"


@contextmanager
def relaying(origin: str) -> Iterator[tuple[str, str]]:
    """Run the daemon for pages from *origin*; yield where they send to, and where they get it all."""
    query = f"origin={quote(origin, safe=':/')}"
    urls = ("--listen", f"ws://127.0.0.1:0/in?{query}", "--to", f"pages=ws+serve://127.0.0.1:0/out?{query}")
    with daemon(*urls, listens=False) as relay:
        addresses = eventually(lambda: up(relay.status()), "the consumers' address is known")
        assert addresses is not None
        yield addresses


def up(status: dict[str, Any]) -> tuple[str, str] | None:
    """Return where pages send to, and where they get it, once both are there."""
    consumer = status["consumers"]["pages"]
    if consumer["state"] != "up":
        return None
    return plain(status["listeners"][0]["address"]), plain(consumer["address"])


def plain(address: str) -> str:
    """Return the address as a browser writes it."""
    return address.partition("?")[0].replace("ws+serve:", "ws:")


def test_page_sends_and_receives(tmp_path: Path) -> None:
    """What a page sends comes back to it unchanged and in order: it connected as a consumer, too."""
    with (
        served(PAGE) as page,
        relaying(page.origin()) as (producer, consumer),
        opened(address(page.origin(), producer, consumer), tmp_path / "profile"),
    ):
        assert page.report() == {"got": MESSAGES}


def test_page_from_elsewhere(tmp_path: Path) -> None:
    """One whose origin is not on the list gets no connection: any site may try, from a visitor's machine."""
    with (
        served(PAGE) as page,
        relaying("http://intranet.example") as (producer, consumer),
        opened(address(page.origin(), producer, consumer), tmp_path / "profile"),
    ):
        assert page.report() == {"refused": "consumer"}

"""Name lookups that hang nobody but who asks for that name."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from producer_pool.toolkit.sockets import resolver
from producer_pool.toolkit.sockets.resolver import MOST_LOOKUPS, resolve, spelled_out
from support.streams import BOUND, until


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], int]]:
    """Make names that start with "hang" hang; return how many lookups do. They end with the test."""
    real = socket.getaddrinfo
    release = threading.Event()
    hung: list[threading.Thread] = []

    def lookup(host: str, *args: Any, **options: Any) -> Any:
        if host.startswith("hang") and not options.get("flags", 0) & socket.AI_NUMERICHOST:
            hung.append(threading.current_thread())
            release.wait()
            host = "127.0.0.1"
        return real(host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield lambda: len(hung)
    release.set()
    for thread in hung:
        thread.join(BOUND)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("resolve ")}


async def test_addresses_need_no_thread() -> None:
    """A numeric address is its own answer, IPv6 and its zones included."""
    before = _threads()

    assert [a.sockaddr for a in await resolve("127.0.0.1", 80)] == [("127.0.0.1", 80)]
    assert [a.host for a in await resolve("::1", 80)] == ["::1"]
    assert _threads() <= before


@pytest.mark.parametrize(
    "host,expected",
    [("127.0.0.1", ["127.0.0.1"]), ("::1", ["::1"]), ("0", ["0.0.0.0"]), ("localhost", []), ("a..b", [])],
)
def test_address_that_is_spelled_out(host: str, expected: list[str]) -> None:
    """It is known without a lookup; of a name nothing is, and of nonsense neither."""
    assert [address.host for address in spelled_out(host, 9000)] == expected


async def test_name_is_looked_up() -> None:
    """A name gives its addresses, each once."""
    found = await resolve("localhost", 80)

    assert {a.host for a in found} <= {"127.0.0.1", "::1"}
    assert len(found) == len(set(found))


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "\udcff"])
async def test_name_that_does_not_exist(name: str) -> None:
    """The error is an OSError that says why."""
    with pytest.raises(OSError, match=r"."):
        await resolve(name, 80)


async def test_hanging_name_delays_nobody_else(hanging: Callable[[], int]) -> None:
    """While names hang, other names and addresses are answered."""
    stuck = [asyncio.ensure_future(resolve(f"hang{n}", 80)) for n in range(40)]
    await until(lambda: hanging() == 40)

    assert await resolve("localhost", 80)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_repeated_question_shares_the_thread(hanging: Callable[[], int]) -> None:
    """Asking again for a name that hangs adds no thread, even after the first one gave up."""
    first = asyncio.ensure_future(resolve("hang", 80))
    await until(lambda: hanging() == 1)
    first.cancel()
    more = [asyncio.ensure_future(resolve("hang", 80)) for _ in range(5)]
    await asyncio.sleep(0)

    assert [thread.name for thread in _threads()].count("resolve hang") == hanging() == 1
    for task in more:
        task.cancel()
    await asyncio.gather(first, *more, return_exceptions=True)


async def test_too_many_hang(hanging: Callable[[], int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Over the bound a lookup fails at once, instead of waiting behind the others."""
    assert MOST_LOOKUPS > 1
    monkeypatch.setattr(resolver, "MOST_LOOKUPS", 2)
    monkeypatch.setattr(resolver, "_waiting", {})  # without those that other tests gave up
    stuck = [asyncio.ensure_future(resolve(f"hang-more{n}", 80)) for n in range(2)]
    await until(lambda: hanging() == 2)

    with pytest.raises(OSError, match=r"\d+ name lookups hang already"):
        await resolve("localhost", 80)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)


async def test_name_is_looked_up_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that has moved is found at its new address."""
    real = socket.getaddrinfo
    where = "127.0.0.1"

    def lookup(host: str, *args: Any, **options: Any) -> Any:
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return real(where, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    before = await resolve("moving", 80)
    where = "127.0.0.2"

    assert (before[0].host, (await resolve("moving", 80))[0].host) == ("127.0.0.1", "127.0.0.2")


def test_interpreter_ends_while_a_name_hangs() -> None:
    """A lookup that hangs does not keep the program from ending."""
    code = """
import asyncio, socket, threading
real = socket.getaddrinfo
def lookup(host, *args, **options):
    if not options.get("flags", 0) & socket.AI_NUMERICHOST:
        threading.Event().wait()
    return real(host, *args, **options)
socket.getaddrinfo = lookup
from producer_pool.toolkit.sockets.resolver import resolve
async def main():
    try:
        async with asyncio.timeout(0.05):
            await resolve("hangs", 80)
    except TimeoutError:
        print("gave up")
asyncio.run(main())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stdout == "gave up\n"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
async def test_forked_child_starts_anew(hanging: Callable[[], int]) -> None:
    """A child does not wait for an answer that only its parent's thread would give."""
    stuck = asyncio.ensure_future(resolve("hang-fork", 80))
    await until(lambda: hanging() == 1)
    resolver._forget()

    assert not resolver._waiting
    stuck.cancel()

"""Names to addresses, looked up on threads that nobody has to wait for."""
# Rule: never loop.getaddrinfo(). Its threads are few and shared, so that one hanging name delays every other,
# and the interpreter waits for them at its end. A daemon thread of its own delays nobody.

from __future__ import annotations

import asyncio
import os
import socket
import threading
from typing import Any, Final, NamedTuple, cast

__all__ = ["MOST_LOOKUPS", "Address", "resolve", "spelled_out"]

MOST_LOOKUPS: Final = 128
"""Names that may be looked up at one time in this process. One more fails at once, instead of waiting."""


class Address(NamedTuple):
    """Where a socket can be bound or connected to."""

    family: int
    sockaddr: tuple[str | int, ...]

    @property
    def host(self) -> str:
        """The numeric address."""
        return str(self.sockaddr[0])


async def resolve(host: str, port: int, *, listening: bool = False) -> list[Address]:
    """
    Return the addresses of *host* in the order in which they should be tried (RFC 6724).

    Looked up anew at each call. Who asks for a name that is being looked up already shares the
    answer. If cancelled, the lookup goes on alone, and nobody notices.

    Raises:
        OSError: there are none, or too many lookups hang. ``strerror`` says which.
    """
    flags = socket.AI_PASSIVE if listening else 0
    try:
        # Asks nobody: either it is an address, or it fails.
        return _lookup(host, port, flags | socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Address]] = loop.create_future()
    _ask((host, port, flags), (loop, answer))
    return await answer


def spelled_out(host: str, port: int) -> list[Address]:
    """Return the address that *host* is; none if it is a name. Asks nobody."""
    try:
        return _lookup(host, port, socket.AI_NUMERICHOST)
    except OSError:
        return []


def _lookup(host: str, port: int, flags: int) -> list[Address]:
    if _is_ipv4(host):
        # getaddrinfo() would say the same, and load the tables of Unicode for it first.
        return [Address(socket.AF_INET, (host, port))]
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    except UnicodeError:
        raise OSError(None, "this is no host name") from None
    # The type hint of getaddrinfo() knows a form with bytes, which IPv4 and IPv6 never have.
    return list(dict.fromkeys(Address(family, cast("Any", name)) for family, _, _, _, name in found))


def _is_ipv4(host: str) -> bool:
    try:
        socket.inet_pton(socket.AF_INET, host)
    except (OSError, ValueError):
        return False
    return True


# -- one thread for each name ----------------------------------------------------------------------

_Question = tuple[str, int, int]
_Waiter = tuple[asyncio.AbstractEventLoop, "asyncio.Future[list[Address]]"]

_lock = threading.Lock()
_waiting: dict[_Question, list[_Waiter]] = {}


def _ask(question: _Question, waiter: _Waiter) -> None:
    with _lock:
        if question in _waiting:
            _waiting[question].append(waiter)
            return
        if len(_waiting) >= MOST_LOOKUPS:
            raise OSError(None, f"{len(_waiting)} name lookups hang already; does the name server answer?")
        _waiting[question] = [waiter]
    threading.Thread(target=_answer, args=(question,), name=f"resolve {question[0]}", daemon=True).start()


def _answer(question: _Question) -> None:
    found: list[Address] | OSError
    try:
        found = _lookup(*question)
    except OSError as error:
        found = error
    with _lock:
        waiters = _waiting.pop(question, [])
    for loop, answer in waiters:
        try:
            loop.call_soon_threadsafe(_hand_over, answer, found)
        except RuntimeError:
            continue  # that loop is closed


def _hand_over(answer: asyncio.Future[list[Address]], found: list[Address] | OSError) -> None:
    if answer.done():
        return
    if isinstance(found, OSError):
        answer.set_exception(found)
    else:
        answer.set_result(found)


def _forget() -> None:
    """Start anew in a forked child, which has none of the threads."""
    global _lock
    _lock = threading.Lock()
    _waiting.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)

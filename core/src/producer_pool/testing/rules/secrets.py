"""That no secret of a URL, and no message, shows anywhere, and that there is something else to show."""

from __future__ import annotations

import asyncio
import contextlib
import io
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import Final, Self

from producer_pool.contract.options import describe
from producer_pool.contract.ports import Client
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.forwarding import Forwarding
from producer_pool.testing.messages import numbered
from producer_pool.testing.rule import CLIENT, CONSUMER, RuleBroken, require, rule
from producer_pool.testing.subject import with_options
from producer_pool.testing.trial import Trial

__all__ = ["has_an_address", "shows_no_message", "shows_no_secret"]

_TIMEOUT: Final = "100ms"
"""For a consumer that does not answer."""
_TRIES: Final = 50
"""Messages sent to a consumer that crashed."""
_LONGEST: Final = 16 * 1024 * 1024
"""Bytes: where more can be carried, no message is too long."""


@rule(CLIENT)
async def shows_no_secret(trial: Trial) -> None:
    """
    No password and no secret option shows in an address, a repr, an error, a traceback or a log line.

    Here each of them holds a marker, and the client meets a consumer that is not there, one that does
    not answer, and one that crashes. Take the address from ``str(endpoint)``, which hides secrets, or
    from host and port; never from ``endpoint.raw``. Declare an option that is secret with
    ``option(..., secret=True)``. Where a library's error may hold the URL that it was given, raise your
    own ``from None``: what hangs on an error as its cause is printed with it.
    """
    marker = f"hunter{trial.random.randrange(10**9, 10**10)}"
    to = await trial.somewhere()
    with _Watch(trial, marker) as watch:
        for secret, url in _secret_urls(trial, trial.url(to), marker):
            watch.secret = secret
            await _send(watch, url, None if isinstance(to, str) else to)
        for secret, url in _secret_listeners(trial, marker):
            watch.secret = secret
            await _listen(watch, url)


@rule(CONSUMER)
async def shows_no_message(trial: Trial) -> None:
    """
    Nothing of a message shows in a log line or an error, at whatever level, and however odd it is.

    Messages are somebody's data, and logs are read by many. Say how long a message is, where it came
    from, and what is wrong with it, but not what is in it; take care with ``repr()`` of what a library
    raises.
    """
    marker = f"payload{trial.random.randrange(10**9, 10**10)}"
    consumer = await trial.consumer()
    text = marker.encode()
    odd = [text, b"a\n" + text, b"\0" + text, b"\xff" + text]
    longest = trial.longest(trial.client(consumer))
    if longest is not None and longest <= _LONGEST:
        odd.append(text * (longest // len(text) + 1))
    with _Watch(trial, marker) as watch:
        watch.secret = "a message"
        await _send(watch, trial.url(consumer), consumer, odd)


@rule(CLIENT)
async def has_an_address(trial: Trial) -> None:
    """
    A client says what it speaks, and where it sends to.

    `protocol_name` and `address` stand in each log line and each error about its consumer. Both are one
    line of text, and there before connect().
    """
    client = trial.client(await trial.somewhere())
    for name in ("protocol_name", "address"):
        text = getattr(client, name)
        require(isinstance(text, str) and text, f"client.{name} is {text!r}; say it in a few words")
        require(text.isprintable(), f"client.{name} is {text!r}, which is more than a line of text")
    require(client.address in repr(client), f"repr() of a client is {client!r}, without its address")


# -- URLs with secrets in them ---------------------------------------------------------------------


def _secret_urls(trial: Trial, place: str, marker: str) -> Iterator[tuple[str, str]]:
    """Yield each secret that a client's URL may have, and the URL with the marker in its place."""
    scheme, _, rest = place.partition("://")
    if rest and not rest.startswith("/") and "@" not in rest:
        yield "the password before the @", f"{scheme}://user:{marker}@{rest}"
        yield "what stands before the @", f"{scheme}://{marker}@{rest}"
    yield from _secret_options(trial, place, trial.subject.transport.options, marker)


def _secret_listeners(trial: Trial, marker: str) -> Iterator[tuple[str, str]]:
    """Yield the same for listeners."""
    transport = trial.subject.transport
    if transport.listener is not None:
        place = trial.subject.listener_url(trial.place, trial.folder)
        yield from _secret_options(trial, place, transport.listener_options or transport.options, marker)


def _secret_options(trial: Trial, place: str, kind: type | None, marker: str) -> Iterator[tuple[str, str]]:
    file = trial.folder / "secret"
    file.write_text(marker)
    for one in describe(kind) if kind is not None else ():
        if one.secret:
            # Of a file, the secret is what is in it, and its name is of use to whom it is missing.
            value = str(file) if one.type == "file" or one.name.endswith("-file") else marker
            yield f"the option {one.name}", with_options(place, {one.name: value})


# -- and whoever may show them ---------------------------------------------------------------------


class _Watch:
    """All that is said while it watches: log lines of every level, what is printed, and what it is told."""

    def __init__(self, trial: Trial, marker: str) -> None:
        self.secret = ""
        """What just now is one."""
        self.trial = trial
        self._marker = marker
        self._said = io.StringIO()
        self._handler = logging.StreamHandler(self._said)
        self._handler.setFormatter(logging.Formatter("%(name)s: %(message)s"))
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        for stream in (contextlib.redirect_stdout(self._said), contextlib.redirect_stderr(self._said)):
            self._stack.enter_context(stream)
        root = logging.getLogger()
        loggers = [
            logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)
        ]
        for logger in (root, *(one for one in loggers if not one.propagate)):
            logger.addHandler(self._handler)
            self._stack.callback(logger.removeHandler, self._handler)
        self._stack.callback(root.setLevel, root.level)
        root.setLevel(logging.DEBUG)
        return self

    def __exit__(self, *exc: object) -> None:
        self._stack.close()

    def look(self, where: str, text: object) -> None:
        """Make sure that the marker is neither in *text* nor in anything that was said."""
        texts = [
            (where, str(text)),
            ("a log line, or what is printed,", self._said.getvalue()),
            ("what the event loop reports", "\n".join(self.trial.unseen)),
        ]
        for place, whole in texts:
            for line in whole.splitlines():
                before, found, after = line.partition(self._marker)
                require(
                    not found,
                    f"{place} shows {self.secret}: {before[-100:].lstrip()}<THE SECRET>{after[:99].rstrip()}",
                )

    @contextlib.contextmanager
    def errors(self, of: str) -> Iterator[None]:
        """Look at the error that is raised in the body, with all that hangs on it, and go on."""
        try:
            yield
        except RuleBroken:
            raise
        except Exception as error:
            self.look(f"the error of {of}", f"{error} {error!r}")
            self.look(f"the traceback of {of}", "".join(traceback.format_exception(error)))


async def _send(
    watch: _Watch, url: str, consumer: TrialConsumer | None, messages: Sequence[bytes] = ()
) -> None:
    """Have a client and a producer meet whatever makes them speak, and look at what they show."""
    trial = watch.trial
    with watch.errors("making a client"):
        client = trial.client(with_options(url, {"timeout": _TIMEOUT}))
        for name in ("address", "protocol_name"):
            watch.look(f"client.{name}", getattr(client, name))
        watch.look("repr() of a client", repr(client))
        if consumer is None:
            return
        forwarding = await trial.forwarding(url, timeout=_TIMEOUT)
        meet = partial(_meet, watch, client, forwarding, messages or numbered(1))
        if messages:
            await meet("one that reads")
        await consumer.crash()
        await meet("one that is not there")
        await consumer.start()
        consumer.pause()
        await meet("one that does not answer")
        consumer.resume()
        await meet("one that crashes", consumer.crash)
        await consumer.start()


async def _meet(
    watch: _Watch,
    client: Client,
    forwarding: Forwarding,
    messages: Sequence[bytes],
    who: str,
    crash: Callable[[], Awaitable[None]] | None = None,
) -> None:
    trial = watch.trial
    async with trial.patience(f"meeting {who} ends"):
        with watch.errors(f"connecting to {who}"):
            async with asyncio.timeout(1):
                await trial.reach(client)
        if crash is not None:
            await forwarding.pool.check()
            await crash()
        for message in [*messages] * (_TRIES // len(messages) if crash is not None else 1):
            with watch.errors(f"sending to {who}"):
                async with asyncio.timeout(1):
                    await client.send(message)
            with watch.errors(f"forwarding to {who}"):
                for result in await forwarding.forward([message]):
                    result.check()
            await asyncio.sleep(0)
        await client.aclose()
    watch.look("the health of its producer", await forwarding.health())


async def _listen(watch: _Watch, url: str) -> None:
    trial = watch.trial
    with watch.errors("a listener"):
        listener = trial.subject.factory.listener(url)
        watch.look("repr() of a listener", repr(listener))
        try:
            async with trial.patience("starting a listener ends"):
                watch.look("the endpoint of a listener", await listener.start(trial.pool().intake))
        finally:
            await listener.aclose()

"""What a transport makes of URLs: of their options, of nonsense in them, and of one that is used twice."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from producer_pool.contract.options import DELIVERY_NAMES, Option, coerce, describe
from producer_pool.contract.ports import Client
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, DeliveryError, InvalidOption, ListenError
from producer_pool.testing.consumers import TrialConsumer
from producer_pool.testing.messages import difference, numbered
from producer_pool.testing.rule import CLIENT, CONSUMER, OPTIONS, RuleBroken, not_applicable, require, rule
from producer_pool.testing.subject import filled
from producer_pool.testing.trial import Trial

__all__ = [
    "leaves_options_alone",
    "options_are_coerced",
    "refuses_bad_values",
    "refuses_odd_urls",
    "two_clients_are_independent",
]

T = TypeVar("T")

_TIMEOUT: Final = 0.3
"""Seconds to connect to where nobody should be."""
_TEXT: Final = ("text", "file")
"""Types of options for which no text is nonsense to core."""

# What follows the colon of a scheme. Names are reserved ones (RFC 2606), which lead nowhere.
_ODD: Final = (
    "",
    "//",
    "///",
    "//:",
    "//:0",
    "//127.0.0.1",
    "//127.0.0.1:",
    "//127.0.0.1:port",
    "//127.0.0.1:-1",
    "//127.0.0.1:65536",
    "//127.0.0.1:99999999999999999999",
    "//127.0.0.1:1:2",
    "//127.0.0.1:1/a/path",
    "//127.0.0.1:1,127.0.0.1:2",
    "//[::1",
    "//::1:1",
    "//[no address]:1",
    "//[nonsense]:1",
    "//user@",
    "//user:password@127.0.0.1:1",
    "//@127.0.0.1:1",
    "//%00:1",
    "//%zz:1",
    "//%ff:1",
    "//a b:1",
    "//..:1",
    "//-.invalid:1",
    f"//{'a' * 300}.invalid:1",
    "//127.0.0.1:1#fragment",
    "//127.0.0.1:1?",
    "//127.0.0.1:1?nonsense",
    "//127.0.0.1:1?=1",
    "//127.0.0.1:1?a=1&a=2",
    "//127.0.0.1:\u0661",
    "///%00",
    f"///{'a/' * 2000}",
)


@rule(OPTIONS)
async def options_are_coerced(trial: Trial) -> None:
    """
    Options are a frozen dataclass, and each has a sentence that says what it does.

    ``field: Size = option(64 * 1024, "bytes that ...")`` is all that it takes: `plugins show` prints the
    sentence, and the core reads the value. Its default has to be one that could be written in a URL.
    The names of delivery options, such as ``buffer``, are taken: a client would never see them.
    """
    for end, kind in _kinds(trial):
        require(
            kind.__dataclass_params__.frozen,
            f"{kind.__name__} is not frozen: write @dataclass(frozen=True)",
        )
        for one in describe(kind):
            where = f"option {one.name} of a {end}"
            require(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", one.name), f"{where}: no name for a URL")
            require(one.help.strip(), f"{where} has no sentence that says what it does; see option()")
            require("\n" not in one.help, f"{where}: its sentence has several lines")
            require(
                end != "client" or one.name not in DELIVERY_NAMES,
                f"{where}: the producer has an option of that name, and the client never sees it",
            )
            if one.default and not one.secret:
                _check_default(trial, end, kind, one)


@rule(OPTIONS)
async def refuses_bad_values(trial: Trial) -> None:
    """
    A value that an option cannot have is an InvalidOption, raised when the client or listener is made.

    So is an option that does not exist, and the error names the nearest one. What core cannot know, such
    as that a number has to be positive, the plugin checks: in ``__post_init__`` of its options, with a
    ValueError, or where it makes the client, with an InvalidOption. Then a mistake is found when the
    program starts, and not with the first message.
    """
    for end, kind in _kinds(trial):
        options = describe(kind)
        for one in options:
            values = ["-1", "0", "1", "99999999999999999999"]
            if not one.type.startswith(_TEXT):
                _make(trial, end, {one.name: "?nonsense!"}, refused=True)
            for value in values if one.type in ("number", "size", "duration") else [""]:
                _make(trial, end, {one.name: value})
        if options:
            wrong = options[0].name + "x"
            text = _make(trial, end, {wrong: "1"}, refused=True)
            require(
                f"did you mean {options[0].name}" in text,
                f"{wrong}=1: no word of {options[0].name} in: {text}",
            )


@rule(CLIENT)
async def refuses_odd_urls(trial: Trial) -> None:
    """
    A URL that makes no sense is a ConfigurationError that says what is wrong, in a line.

    It is raised when the client or the listener is made, or at the latest by connect(), which may also
    find that nobody is there. Read a URL through the endpoint: ``endpoint.host``, ``endpoint.port`` and
    ``endpoint.path`` raise the right error themselves. ``endpoint.no_more_than_host_and_port()`` refuses
    all that a simple protocol has no use for.
    """
    subject = trial.subject
    for rest in _ODD:
        url = f"{subject.scheme}:{rest}"
        if subject.transport.listener is not None:
            _refused_or_made(url, subject.factory.listener)
        client = _refused_or_made(url, trial.client)
        if client is not None:
            await _connects_or_does_not(trial, url, client)


@rule(CONSUMER)
async def leaves_options_alone(trial: Trial) -> None:
    """
    Endpoint and options are as they were, after clients were made of them and used.

    They are values, and others have them, too: a second client, the text of an error, `plugins show`. A
    frozen dataclass can be changed with object.__setattr__, and its lists without that.
    """
    consumer = await trial.consumer()
    endpoint, options = _parsed(trial, trial.url(consumer))
    before = _snapshot(endpoint, options)
    make = trial.subject.transport.client
    assert make is not None
    messages = numbered(4)
    for message in messages:
        client = make(endpoint, options)
        async with trial.patience("a client is used"), trial.using(client):
            await client.send(message)
    await _arrive_in_any_order(trial, consumer, messages)
    for name, value in _snapshot(endpoint, options).items():
        require(
            value == before[name],
            f"{name} was {before[name]!r}, and is {value!r} after clients were made of it and used",
        )


@rule(CONSUMER)
async def two_clients_are_independent(trial: Trial) -> None:
    """
    Two clients have nothing in common: one is closed, and the other goes on; no message gets astray.

    A program may have two producers for one consumer, and has others for others. What belongs to a
    connection is kept in the client that made it, not in its class, its module, or the options.
    """
    consumer = await trial.consumer()
    if consumer.comes:
        not_applicable("has consumers that come to it, and no two clients can be at one place")
    messages = numbered(6)
    one, other = trial.client(consumer), trial.client(consumer)
    async with trial.patience("two clients are used in turn"):
        await trial.reach(one)
        await trial.reach(other)
        await one.send(messages[0])
        await other.send(messages[1])
        await one.aclose()
        try:
            await other.send(messages[2])
            await trial.reach(one)
            await one.send(messages[3])
            await other.send(messages[4])
            await other.aclose()
            await one.send(messages[5])
        except DeliveryError as error:
            raise RuleBroken(
                f"after another client of the same URL was closed: {type(error).__name__}: {error}"
            ) from error
    await _arrive_in_any_order(trial, consumer, messages)
    with contextlib.suppress(ListenError):  # There may be one place only.
        await _send_to_two(trial, consumer, await trial.consumer())


# -- what they share -------------------------------------------------------------------------------


def _kinds(trial: Trial) -> Iterator[tuple[str, Any]]:
    """Yield the options classes of both ends."""
    transport = trial.subject.transport
    if transport.client is not None and transport.options is not None:
        yield "client", transport.options
    kind = transport.listener_options or transport.options
    if transport.listener is not None and kind is not None:
        yield "listener", kind


def _check_default(trial: Trial, end: str, kind: Any, one: Option) -> None:
    where = f"option {one.name} of a {end}"
    name = one.name.replace("-", "_")
    known = {option.name for option in describe(kind)}
    given = trial.subject.client_options if end == "client" else trial.subject.listener_options
    base = {name: value for name, value in filled(given, trial.folder).items() if name in known - {one.name}}
    try:
        default = getattr(coerce(kind, base, where=where), name)
    except InvalidOption:
        return  # Other options are needed, and nobody said which.
    try:
        read = getattr(coerce(kind, {**base, one.name: one.default}, where=where), name)
    except InvalidOption as error:
        raise RuleBroken(f"{where}: its default {one.default} cannot be written in a URL: {error}") from error
    require(
        read == default, f"{where}: its default is {default!r}, and ?{one.name}={one.default} is {read!r}"
    )


def _parsed(trial: Trial, url: str) -> tuple[Endpoint, Any]:
    """Return what the factory hands to a transport for *url*."""
    kind = trial.subject.transport.options
    endpoint = Endpoint.parse(url)
    if kind is None:
        return endpoint, None
    endpoint = endpoint.hiding(one.name for one in describe(kind) if one.secret)
    return endpoint, coerce(kind, endpoint.options, where=trial.subject.scheme)


def _snapshot(endpoint: Endpoint, options: Any) -> dict[str, object]:
    kept: dict[str, object] = {"endpoint": str(endpoint), "endpoint.options": dict(endpoint.options)}
    for field in dataclasses.fields(options) if options is not None else ():
        kept[f"options.{field.name}"] = copy.deepcopy(getattr(options, field.name))
    return kept


async def _arrive_in_any_order(trial: Trial, consumer: TrialConsumer, messages: Sequence[bytes]) -> None:
    """Wait until *messages* have arrived: over several connections, which have no order among them."""
    with contextlib.suppress(RuleBroken):
        await trial.until(lambda: len(consumer.received) >= len(messages), "all messages arrive")
    fault = difference(messages, consumer.received, ordered=False)
    require(not fault, fault)


async def _send_to_two(trial: Trial, consumer: TrialConsumer, another: TrialConsumer) -> None:
    """Send to two consumers at the same time, and require that each gets what was for it."""
    here, there = numbered(20, start=100), numbered(20, start=200)
    one, other = trial.client(consumer), trial.client(another)
    async with trial.patience("two clients for two consumers are used at the same time"):
        await trial.reach(one)
        await trial.reach(other)
        for message, its in zip(here, there, strict=True):
            await asyncio.gather(one.send(message), other.send(its))
    missing = await trial.missing(consumer, here) | await trial.missing(another, there)
    astray = missing.intersection([*consumer.received, *another.received])
    require(
        not astray, f"{len(astray)} messages arrived at the consumer of another client, and not at theirs"
    )
    require(not missing, f"{len(missing)} of 40 messages, of two clients for two consumers, did not arrive")


def _refused_or_made(url: str, make: Callable[[str], T]) -> T | None:
    """Return what *make* makes of *url*; None: it refused the URL, as it should."""
    try:
        return make(url)
    except ConfigurationError as error:
        text = str(error)
        require(text and text.isprintable(), f"{_short(url)}: the error is not one line of text: {text!r}")
        return None
    except Exception as error:
        raise RuleBroken(f"{_short(url)} raised {type(error).__name__}: {error}") from error


async def _connects_or_does_not(trial: Trial, url: str, client: Client) -> None:
    try:
        async with trial.patience(f"connecting to {_short(url)} ends"), asyncio.timeout(_TIMEOUT):
            await trial.reach(client)
    except (ConfigurationError, DeliveryError, TimeoutError):
        pass
    except RuleBroken:
        raise
    except Exception as error:
        raise RuleBroken(
            f"{_short(url)}: connect() raised {type(error).__name__}: {error}; refuse such a URL when the "
            "client is made"
        ) from error
    await trial.within("aclose() returns", client.aclose())


def _short(url: str) -> str:
    return url if len(url) <= 60 else f"{url[:50]}... ({len(url)} characters)"


def _make(trial: Trial, end: str, options: dict[str, str], *, refused: bool = False) -> str:
    """Make a client or a listener with *options*, or have them refused; return what the error says."""
    subject = trial.subject
    shown = "&".join(f"{name}={value}" for name, value in options.items())
    try:
        if end == "client":
            subject.factory.create(subject.client_url(trial.consumer_place, trial.folder, **options))
        else:
            subject.factory.listener(subject.listener_url(trial.place, trial.folder, **options))
    except ConfigurationError as error:
        require(str(error).isprintable(), f"{shown} of a {end}: an error of several lines: {error}")
        return str(error)
    except Exception as error:
        raise RuleBroken(
            f"{shown} of a {end} raised {type(error).__name__}: {error}; raise an InvalidOption, or a "
            "ValueError in __post_init__ of the options"
        ) from error
    require(not refused, f"{shown} of a {end} was accepted")
    return ""

"""From a URL to a client, a plan and a listener; and whose option is whose."""

import functools
import logging
import math
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.builtin.memory import MemoryClient
from producer_pool.contract.options import Duration, option
from producer_pool.contract.ports import Client, Intake, Listener
from producer_pool.contract.transport import Transport
from producer_pool.discovery.factory import ClientFactory
from producer_pool.discovery.registry import Registry
from producer_pool.discovery.selection import PluginSelection
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import (
    ConfigurationError,
    InvalidEndpoint,
    InvalidOption,
    PluginLoadError,
    ProducerPoolError,
    UnknownScheme,
)
from producer_pool.model.outcomes import Ack
from producer_pool.model.policies import DeliveryPolicy, Overflow
from producer_pool.plugin import hookimpl


@dataclass(frozen=True)
class Options:
    """What the plugin under test knows."""

    color: str = option("red", "which")
    pin: str | None = option(None, "a secret whose name does not say so", secret=True)
    number: int = option(0, "how many")

    def __post_init__(self) -> None:
        if self.number > 100:
            raise ValueError(f"{self} is too much for {self.pin}")


@dataclass(frozen=True)
class Timed:
    """Options with a field of that name."""

    timeout: Duration = option(3.0, "how long")


class FakeClient(Client):
    """Keeps what it was made from."""

    protocol_name = "fake"

    def __init__(self, endpoint: Endpoint, options: Any) -> None:
        self.address, self.endpoint, self.options = str(endpoint), endpoint, options

    async def send(self, message: bytes) -> None: ...


class LadderClient(FakeClient):
    acks = frozenset({Ack.WRITTEN, Ack.PEER})


class FakeListener(Listener):
    """Keeps what it was made from."""

    def __init__(self, endpoint: Endpoint, options: Any) -> None:
        self.endpoint, self.options = endpoint, options

    async def start(self, intake: Intake) -> Endpoint:
        return self.endpoint

    async def stop_accepting(self) -> None: ...

    async def drain(self) -> None: ...

    async def aclose(self) -> None: ...


class Plugin:
    """Offers the transports of these tests."""

    def __init__(self, *more: Transport) -> None:
        self.more = more

    @hookimpl
    def producer_pool_transports(self) -> list[Transport]:
        return [
            Transport(schemes=["fake"], client=FakeClient, listener=FakeListener, options=Options),
            Transport(schemes=["timed"], client=FakeClient, listener=FakeListener, options=Timed),
            Transport(schemes=["bare"], client=FakeClient),
            Transport(schemes=["in"], client=None, listener=FakeListener, listener_options=Timed),
            Transport(schemes=["ladder"], client=LadderClient, acks=LadderClient.acks),
            *self.more,
        ]


def factory(*more: Transport, policy: DeliveryPolicy | None = None) -> ClientFactory:
    registry = Registry(PluginSelection())
    registry.register(Plugin(*more), "test")
    return ClientFactory(registry, policy)


# -- clients ---------------------------------------------------------------------------------------------


def test_client_of_a_url() -> None:
    """The plugin gets the endpoint, and the query as an instance of its options."""
    client = factory().create("fake://h:1?color=blue&number=7")

    assert isinstance(client, FakeClient)
    assert client.options == Options(color="blue", number=7)
    assert client.endpoint.host == "h"


def test_create_on_the_class() -> None:
    """It works without making a factory, with the registry of the process."""
    client = ClientFactory.create("memory:factory", timeout=2)

    assert isinstance(client, MemoryClient)
    assert client.timeout == 2


def test_transport_without_options() -> None:
    """Its factory gets None, and no option is accepted but those of every client."""
    assert factory().create("bare://h?timeout=2s").options is None  # type: ignore[attr-defined]
    with pytest.raises(InvalidOption, match=r"^bare://h has no option color; known: timeout$"):
        factory().create("bare://h?color=blue")


def test_unknown_option() -> None:
    """The error names the nearest of those that could have been meant, also of the producer's."""
    with pytest.raises(
        InvalidOption, match=r"fake://h has no option colour; known: .*; did you mean color\?"
    ):
        factory().create("fake://h?colour=blue")
    with pytest.raises(InvalidOption, match=r"has no option bufer; known: .*buffer.*; did you mean buffer\?"):
        factory().plan("fake://h?bufer=1MiB")


def test_delivery_option_for_a_client_alone() -> None:
    """It is refused, and the error says where it belongs."""
    with pytest.raises(
        InvalidOption, match=r"fake://h: a client alone has no ack=, buffer=; .*add_producer\(\)"
    ):
        factory().create("fake://h?buffer=1MiB&ack=written")


def test_scheme_that_only_listens() -> None:
    """The error says so."""
    with pytest.raises(InvalidEndpoint, match="in://h: in only listens; it cannot send"):
        factory().create("in://h")


def test_unknown_scheme() -> None:
    """The registry's error comes through."""
    with pytest.raises(UnknownScheme):
        factory().create("amqp://user:hunter2@h")


# -- timeout ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query, argument, expected",
    [("", None, 10.0), ("?timeout=2s", None, 2.0), ("", 3, 3.0), ("?timeout=500ms", 0.5, 0.5)],
)
def test_timeout(query: str, argument: float | None, expected: float) -> None:
    """It stands in the URL of every scheme, or in the call, and ends up at the client."""
    client = factory().create(f"fake://h{query}", timeout=argument)

    assert client.timeout == expected
    assert client.endpoint.options == {}  # type: ignore[attr-defined]


def test_timeout_for_options_with_such_a_field() -> None:
    """They get it too, from wherever it comes."""
    assert factory().create("timed://h?timeout=2s").options == Timed(2.0)  # type: ignore[attr-defined]
    assert factory().create("timed://h", timeout=4).options == Timed(4.0)  # type: ignore[attr-defined]
    assert factory().create("timed://h").options == Timed(3.0)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "query, argument, message",
    [
        ("?timeout=2s", 3, "the URL says timeout=2s, and the call timeout=3s; leave one out"),
        ("?timeout=soon", None, "option timeout: 'soon' is not a duration"),
        ("?timeout=0s", None, "timeout must be above 0 seconds"),
        ("", -1, "timeout must be above 0 seconds"),
        ("", math.nan, "timeout= is a number of seconds, not nan; units go with URLs"),
        ("", "5s", "timeout= is a number of seconds, not '5s'; units go with URLs"),
    ],
)
def test_timeout_that_cannot_be_used(query: str, argument: Any, message: str) -> None:
    """Two different ones are an error: nobody could say which was meant."""
    with pytest.raises(InvalidOption, match=f"fake://h: {message}"):
        factory().create(f"fake://h{query}", timeout=argument)


# -- plans -----------------------------------------------------------------------------------------------


def test_plan() -> None:
    """Delivery options change the policy; the client never sees them."""
    plan = factory().plan(
        "fake://h?color=blue&buffer=1MiB&overflow=block&retry-attempts=3&timeout=2s", DeliveryPolicy.relay()
    )

    assert plan.policy.buffer == 1024 * 1024
    assert plan.policy.overflow is Overflow.BLOCK
    assert plan.policy.retry.attempts == 3
    assert plan.policy.deadline == DeliveryPolicy.relay().deadline
    assert plan.client.timeout == 2.0
    assert plan.endpoint.options == {"color": "blue"}
    assert plan.transport.client is FakeClient
    assert plan.provided.title == "test"


def test_plan_without_a_policy() -> None:
    """The factory's own is the default, and direct() is the default of the factory."""
    relay = replace(DeliveryPolicy.relay(), ack=Ack.WRITTEN)

    assert factory().plan("fake://h").policy == DeliveryPolicy.direct()
    assert factory(policy=relay).plan("fake://h").policy == relay


@pytest.mark.parametrize(
    "asked, expected",
    [("written", Ack.WRITTEN), ("kernel", Ack.PEER), ("peer", Ack.PEER), ("best", Ack.PEER)],
)
def test_level_that_is_reached(asked: str, expected: Ack) -> None:
    """The plan has the level that the client really reaches."""
    assert factory().plan(f"ladder://h?ack={asked}").policy.ack is expected


def test_level_that_is_not_reached() -> None:
    """It is an error that says what can be had, and no silent downgrade."""
    with pytest.raises(
        InvalidOption, match="ladder://h: ack=app cannot be reached here, only written, peer; use"
    ):
        factory().plan("ladder://h?ack=app")


def test_delivery_option_that_cannot_be_read() -> None:
    """The error names the option and what it takes."""
    with pytest.raises(InvalidOption, match="fake://h: option overflow: 'dorp-oldest' is none of"):
        factory().plan("fake://h?overflow=dorp-oldest")
    with pytest.raises(InvalidOption, match="fake://h: buffer must be at least 1 byte"):
        factory().plan("fake://h?buffer=0")


def test_wiring_of_the_registry() -> None:
    """A pool gets it from the factory."""
    assert list(factory().wiring().stages("audit", None)) == []


# -- listeners -------------------------------------------------------------------------------------------


def test_listener_of_a_url() -> None:
    """It gets the options for listeners, or those of the transport where there are no others."""
    first = factory().listener("in://h?timeout=2s")
    second = factory().listener("fake://h?color=blue")

    assert first.options == Timed(2.0)  # type: ignore[attr-defined]
    assert second.options == Options(color="blue")  # type: ignore[attr-defined]


def test_listener_that_cannot_be_made() -> None:
    """Schemes that only send, delivery options and unknown options are errors."""
    with pytest.raises(InvalidEndpoint, match="bare://h: bare only sends; it cannot listen"):
        factory().listener("bare://h")
    with pytest.raises(InvalidOption, match="fake://h: a listener has no buffer="):
        factory().listener("fake://h?buffer=1MiB")
    with pytest.raises(InvalidOption, match="fake://h has no option colour; known: color, number, pin"):
        factory().listener("fake://h?colour=blue")


@dataclass(frozen=True)
class Warm(Options):
    """The options of another end, which has one more."""

    degrees: int = option(20, "how warm")


BOTH = Transport(
    schemes=["both"], client=FakeClient, listener=FakeListener, options=Options, listener_options=Warm
)


def test_option_of_the_other_end() -> None:
    """The error says whose it is, and into which URL it goes; one that both have is no error."""
    ends = factory(BOTH)
    cold = factory(replace(BOTH, options=Warm, listener_options=Options))

    with pytest.raises(
        InvalidOption, match=r"^both://h: a client has no degrees=; .* of a listener: .*--listen"
    ):
        ends.plan("both://h?color=blue&degrees=1")
    with pytest.raises(
        InvalidOption, match=r"^both://h: a listener has no degrees=, timeout=; .* --to or PROD"
    ):
        cold.listener("both://h?color=blue&timeout=1s&degrees=1")
    assert ends.listener("both://h?color=blue&degrees=1").options == Warm("blue", degrees=1)  # type: ignore[attr-defined]
    assert cold.create("both://h?timeout=1s&degrees=1").options == Warm(degrees=1)  # type: ignore[attr-defined]


def test_option_of_an_end_that_is_not_there() -> None:
    """Where nothing sends, or nothing listens, no URL could have it, and none is named."""
    only = factory(
        replace(BOTH, client=None, listener_options=Options), replace(BOTH, schemes=["bare2"], listener=None)
    )

    with pytest.raises(InvalidOption, match=r"both://h has no option timeout; known: color, number, pin$"):
        only.listener("both://h?timeout=1s")
    with pytest.raises(
        InvalidOption, match=r"bare2://h has no option degrees; known: color, number, pin, time"
    ):
        only.create("bare2://h?degrees=1")


# -- plugins that fail, and secrets ----------------------------------------------------------------------


def failing(text: Callable[[Endpoint], Exception]) -> Transport:
    """Return a transport whose factory raises, with another exception behind it."""

    def make(endpoint: Endpoint, options: object) -> Client:
        try:
            raise KeyError(endpoint.raw, endpoint.password)
        except KeyError as error:
            raise text(endpoint) from error

    return Transport(schemes=["failing"], client=make, options=Options)


def caught(make: Callable[[], object]) -> ProducerPoolError:
    with pytest.raises(ProducerPoolError) as info:
        make()
    return info.value


def printed(error: BaseException) -> str:
    """Return all that anybody could see of an exception."""
    return f"{error!s} {error!r} {error.args} {''.join(traceback.format_exception(error))}"


def test_factory_that_fails() -> None:
    """The error names the plugin, the endpoint, what happened, and where."""
    error = caught(lambda: factory(failing(lambda _: RuntimeError("no luck"))).create("failing://h"))

    assert isinstance(error, PluginLoadError)
    assert str(error).startswith(
        "test fails in producer_pool_make_client() for failing://h: RuntimeError: no luck ("
    )
    assert "test_factory.py, line " in str(error)


def test_factory_that_refuses() -> None:
    """An error that is made for people comes through as it is."""
    refusal = InvalidEndpoint("failing: there is no such thing")
    plain = Transport(schemes=["failing"], client=lambda endpoint, options: _raise(refusal))

    assert caught(lambda: factory(plain).create("failing://h")) is refusal


def _raise(error: Exception) -> Client:
    raise error


SECRET = "s3cr&t/Marker"
ESCAPED = "s3cr%26t%2FMarker"


@pytest.mark.parametrize(
    "make",
    [
        lambda endpoint: RuntimeError(f"cannot reach {endpoint.raw}"),
        lambda endpoint: RuntimeError(endpoint.password),
        lambda endpoint: KeyError(endpoint),
        lambda endpoint: ConfigurationError(f"{endpoint.raw} is wrong"),
        lambda endpoint: InvalidOption(f"what is {endpoint.options}"),
        lambda endpoint: ConfigurationError("nothing to see, but behind it"),
    ],
)
@pytest.mark.parametrize(
    "url", [f"failing://u:{ESCAPED}@h:1?number=1", f"failing://h:1?pin={ESCAPED}", f"failing://{ESCAPED}@h"]
)
def test_secret_in_the_error_of_a_plugin(url: str, make: Callable[[Endpoint], Exception]) -> None:
    """Whatever the plugin says, its secrets are hidden: in the text, and in what stands behind it."""
    seen = printed(caught(lambda: factory(failing(make)).create(url)))

    assert SECRET not in seen
    assert ESCAPED not in seen


BAD = [
    "?nonsense=1",
    "?number=x",
    "?number=101&color=blue",
    "?timeout=soon",
    "?buffer=1",
    "?ack=app",
    "?number=1&number=2",
    "?number",
    "#fragment",
    "?color= ",
    ":99999x?color=\n",
]


@given(st.text("abcXYZ019_.~!$", min_size=8, max_size=20), st.sampled_from(BAD))
def test_secret_in_an_error_of_core(secret: str, bad: str) -> None:
    """No way in which a URL can be wrong shows its password, or an option that is declared as secret."""
    makers = factory()
    for url in (f"fake://u:{secret}@h{bad}", f"fake://h{bad}{'&' if '?' in bad else '?'}pin={secret}"):
        for make in (makers.create, makers.plan, makers.listener):
            with suppress(ProducerPoolError):
                made = make(url)
                assert secret not in f"{made!r} {getattr(made, 'endpoint', '')!r}"
                continue
            assert secret not in printed(caught(functools.partial(make, url)))


def test_secret_of_a_client_that_was_made(caplog: pytest.LogCaptureFixture) -> None:
    """The endpoint that the plugin gets hides what the plugin declares, and so do its options."""
    caplog.set_level(logging.DEBUG)
    client = factory().create("fake://h?pin=hunter2")

    assert client.options.pin == "hunter2"  # type: ignore[attr-defined]
    assert client.address == "fake://h?pin=***"
    assert "hunter2" not in f"{client!r} {client.endpoint!r} {client.options!r} {caplog.text}"  # type: ignore[attr-defined]


def test_plan_does_not_touch_the_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Making is not connecting: nothing is opened, so that starting never depends on a consumer being up."""
    monkeypatch.chdir(tmp_path)
    factory().plan("fake://h:1")

    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("character", "@/?#:%&=+[] \\\"'\n;,|")
def test_secret_that_is_not_escaped(character: str) -> None:
    """Not even a part of a password is shown that was written without the escapes that it needs."""
    makers = factory()
    for url in (f"fake://u:Marker{character}Marker@h:1?number=x", f"fake://u:123{character}Marker@h"):
        for make in (makers.create, makers.plan, makers.listener):
            with suppress(ProducerPoolError):
                assert "Marker" not in repr(make(url))
                continue
            assert "Marker" not in printed(caught(functools.partial(make, url)))

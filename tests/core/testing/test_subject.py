"""What is on trial: a URL where both ends meet, and the options of each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from producer_pool.builtin.memory import MemoryClient
from producer_pool.discovery.registry import Registry
from producer_pool.model.errors import UnknownScheme, UsageError
from producer_pool.plugin import Transport
from producer_pool.testing.consumers import ListenerConsumer
from producer_pool.testing.subject import Subject, with_options
from support.zoo.animal import Plugin, transport


def registry(**declared: Any) -> Registry:
    made = Registry()
    made.register(Plugin(transport(**declared)), "zoo")
    return made


def test_scheme_says_where_its_ends_meet() -> None:
    """Who names a scheme alone gets the URL that its transport declares."""
    subject = Subject.of_scheme("zoo", registry())

    assert subject.url == "zoo://127.0.0.1:0"
    assert subject.scheme == "zoo"
    assert subject.transport.ordered
    assert subject.provided.distribution == "zoo"


def test_options_of_the_declared_url() -> None:
    """They are the listener's, as those of any other URL, and the options given beside are there, too."""
    declared = registry(loopback="zoo://127.0.0.1:0?tail=deliver")
    subject = Subject.of_scheme("zoo", declared, listener_options={"max-message": "2KiB"})

    assert subject.url == "zoo://127.0.0.1:0"
    assert subject.listener_options == {"tail": "deliver", "max-message": "2KiB"}


def test_url_as_people_see_it() -> None:
    """The place of the folder is shown as it is written, and a password is not shown."""
    assert Subject("zoo:{tmp}/x", registry()).shown == "zoo:{tmp}/x"
    assert Subject("zoo://{tmp}/x", registry()).shown == "zoo://{tmp}/x"
    assert "secret" not in Subject("zoo://me:secret@127.0.0.1:0", registry()).shown


def test_scheme_that_does_not_say_where_its_ends_meet() -> None:
    """The error says what to write, for the user and for the author."""
    with pytest.raises(UsageError, match=r"name a URL, such as zoo://127.0.0.1:0, or set loopback="):
        Subject.of_scheme("zoo", registry(loopback=""))


def test_scheme_that_nobody_has() -> None:
    """There is nothing to try."""
    with pytest.raises(UnknownScheme):
        Subject.of_scheme("nosuch", Registry())


def test_options_in_the_url_are_those_of_the_listener() -> None:
    """A client's URL is made from where the listener is, and does not have them; those given beside win."""
    url = "zoo://127.0.0.1:0?tail=deliver&max-message=2KiB"
    subject = Subject(url, registry(), listener_options={"tail": "discard"})

    assert subject.url == "zoo://127.0.0.1:0"
    assert subject.listener_options == {"tail": "discard", "max-message": "2KiB"}
    assert subject.client_options == {}


def test_options_in_the_url_of_what_only_sends() -> None:
    """Then they are those of the client."""
    plugins = Registry()
    plugins.register(Plugin(Transport(schemes=("zoo",), client=lambda *_: MemoryClient("zoo"))), "zoo")
    subject = Subject("zoo:x?color=a%20b", plugins)

    assert (subject.client_options, subject.listener_options) == ({"color": "a b"}, {})
    assert not subject.sees_arrivals


def test_consumer_that_the_transport_makes() -> None:
    """It shows what arrives, unless the suite was given another one."""
    made = Subject("tcp+serve://127.0.0.1:0")
    given = Subject("tcp+serve://127.0.0.1:0", consumer=ListenerConsumer)

    assert made.sees_arrivals
    assert made.consumer_maker is made.transport.trial_consumer is not None
    assert given.consumer_maker is ListenerConsumer
    assert Subject("tcp://127.0.0.1:0").consumer_maker is None
    assert not Subject("null:").sees_arrivals


def test_place_in_a_folder(tmp_path: Path) -> None:
    """Each rule has a folder of its own."""
    subject = Subject("ZOO://{tmp}/x/{tmp}", registry())

    assert subject.scheme == "zoo"
    assert subject.place(tmp_path) == f"ZOO://{tmp_path}/x/{tmp_path}"


def test_place_of_a_consumer_that_nobody_started() -> None:
    """It is one where somebody could be. Who is connected to may be at port 0: that is any free one."""
    assert Subject("tcp://127.0.0.1:0").consumer_place("tcp://127.0.0.1:0") == "tcp://127.0.0.1:9"
    assert Subject("tcp://127.0.0.1:8").consumer_place("tcp://127.0.0.1:8") == "tcp://127.0.0.1:8"
    assert Subject("unix:{tmp}/x").consumer_place("unix:/tmp/x") == "unix:/tmp/x"
    serving = "tcp+serve://127.0.0.1:0"
    assert Subject(serving).consumer_place(serving) == serving


@pytest.mark.parametrize(
    "url,options,expected",
    [
        ("a://h:1", {}, "a://h:1"),
        ("a://h:1", {"b": "1", "c": "x y&z"}, "a://h:1?b=1&c=x%20y%26z"),
        ("a://h:1?b=0&d=2", {"b": "1"}, "a://h:1?d=2&b=1"),
        ("a:x", {"ca": "/tmp/a,b"}, "a:x?ca=/tmp/a,b"),
    ],
)
def test_options_in_a_url(url: str, options: dict[str, str], expected: str) -> None:
    """They are encoded, and take the place of those of the same name."""
    assert with_options(url, options) == expected


def test_urls_of_both_ends(tmp_path: Path) -> None:
    """Each has its own options, with a folder in them, and those that a rule asks for."""
    subject = Subject(
        "zoo://127.0.0.1:0",
        registry(),
        client_options={"a": "{tmp}/a"},
        listener_options={"b": "{tmp}/b"},
    )

    assert subject.client_url("zoo://h:1", tmp_path, max_message="1") == (
        f"zoo://h:1?a={tmp_path}/a&max-message=1"
    )
    assert subject.listener_url("zoo://h:1", tmp_path, b="2") == "zoo://h:1?b=2"

"""Endpoints: what a URL means, what is refused and with which advice, and others made from it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer_pool.model.endpoint import Endpoint, is_url
from producer_pool.model.errors import InvalidEndpoint, InvalidOption

# -- what a URL means ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url,host,port",
    [
        ("tcp://127.0.0.1:9000", "127.0.0.1", 9000),
        ("tcp://localhost:0", "localhost", 0),
        ("tcp://Example.ORG:65535/", "example.org", 65535),
        ("tcp://user:pass@h:00001", "h", 1),
        ("tcp://[::1]:9000", "::1", 9000),
        ("tcp://[2001:DB8::1]:9000", "2001:db8::1", 9000),
        ("tcp://[::ffff:127.0.0.1]:9000", "::ffff:127.0.0.1", 9000),
        ("tcp://[fe80::1%25eth0]:9000", "fe80::1%eth0", 9000),
        ("tcp://[fe80::1%eth0]:9000", "fe80::1%eth0", 9000),
        ("tcp://[fe80::1%25Eth%300]:9000", "fe80::1%Eth00", 9000),
        ("tcp://b%C3%BCcher.example:1", "bücher.example", 1),
        ("tcp://bücher.example:1", "bücher.example", 1),
    ],
)
def test_host_and_port(url: str, host: str, port: int) -> None:
    """Both are decoded; brackets are not part of an IPv6 address, and its zone keeps its case."""
    endpoint = Endpoint.parse(url)

    assert (endpoint.host, endpoint.port) == (host, port)


@pytest.mark.parametrize(
    "url,scheme,path",
    [
        ("unix:@name", "unix", "@name"),
        ("unix:@na@me", "unix", "@na@me"),
        ("unix:///run/user@1000/p.sock", "unix", "/run/user@1000/p.sock"),
        ("unix:/run/a%20b", "unix", "/run/a b"),
        ("memory:x", "memory", "x"),
        ("stdout:", "stdout", ""),
        ("null:", "null", ""),
        ("fifo:/path", "fifo", "/path"),
        ("fifo:relative/path", "fifo", "relative/path"),
        ("TCP+TLS://h:1/a%2Fb", "tcp+tls", "/a/b"),
        ("ws://h:1/a%C3%BC", "ws", "/aü"),
        ("stdout:?framing=nul", "stdout", ""),
    ],
)
def test_scheme_and_path(url: str, scheme: str, path: str) -> None:
    """A URL need not have a host: then what it names stands after the scheme."""
    endpoint = Endpoint.parse(url)

    assert (endpoint.scheme, endpoint.path, endpoint.raw) == (scheme, path, url)
    assert (endpoint.username, endpoint.password) == (None, None)


@pytest.mark.parametrize(
    "url,username,password",
    [
        ("tcp://h:1", None, None),
        ("tcp://user@h:1", "user", None),
        ("tcp://user:@h:1", "user", ""),
        ("tcp://:word@h:1", "", "word"),
        ("tcp://u%40corp:p%40%2F%3A%23%3F%25@h:1", "u@corp", "p@/:#?%"),
        ("tcp://u:a:b+c@h:1", "u", "a:b+c"),
        ("kafka://u:p@b1:9092,b2:9092/topic", "u", "p"),
    ],
)
def test_user_and_password(url: str, username: str | None, password: str | None) -> None:
    """Both are decoded, and a plus is a plus."""
    endpoint = Endpoint.parse(url)

    assert (endpoint.username, endpoint.password) == (username, password)


@given(st.text(min_size=1), st.text(min_size=1), st.text())
def test_anything_can_be_percent_encoded(user: str, password: str, value: str) -> None:
    """Encoded byte by byte, everything arrives as it was."""
    user, password, value = (text.encode(errors="replace").decode() for text in (user, password, value))

    def quoted(text: str) -> str:
        return "".join(f"%{byte:02X}" for byte in text.encode())

    endpoint = Endpoint.parse(f"tcp://{quoted(user)}:{quoted(password)}@h:1?note={quoted(value)}")

    assert (endpoint.username, endpoint.password, endpoint.options["note"]) == (user, password, value)


def test_options() -> None:
    """The query is decoded, and keeps its order; a plus is a plus, and an empty value is one."""
    options = Endpoint.parse("tcp://h:1?b=2%26&a=x+y=z&c=&%64=%C3%BC").options

    assert list(options.items()) == [("b", "2&"), ("a", "x+y=z"), ("c", ""), ("d", "ü")]


@pytest.mark.parametrize("url", ["tcp://h:1", "tcp://h:1?", "tcp://h:1/"])
def test_no_options(url: str) -> None:
    """A lone question mark starts an empty query."""
    assert Endpoint.parse(url).options == {}


def test_several_hosts() -> None:
    """A plugin whose URLs name several hosts reads `raw`; only who asks for the one host is refused."""
    url = "kafka://u:p@b1:9092,b2:9092/topic?x=1"
    endpoint = Endpoint.parse(url)

    assert endpoint.raw == url
    assert (endpoint.scheme, endpoint.path, endpoint.options) == ("kafka", "/topic", {"x": "1"})
    with pytest.raises(InvalidEndpoint, match="names several hosts; kafka takes one, as host:port"):
        _ = endpoint.host


def test_equal_endpoints() -> None:
    """Two are equal if they were written alike."""
    assert Endpoint.parse("tcp://h:1") == Endpoint.parse("tcp://h:1")
    assert Endpoint.parse("tcp://h:1") != Endpoint.parse("tcp://h:2")
    assert len({Endpoint.parse("tcp://h:1?a=1"), Endpoint.parse("tcp://h:1?a=1")}) == 1


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url,text",
    [
        ("127.0.0.1:9000", "127.0.0.1:9000 has no scheme; did you mean tcp://127.0.0.1:9000?"),
        ("localhost:9000", "localhost:9000 has no scheme; did you mean tcp://localhost:9000?"),
        ("[::1]:9000", "[::1]:9000 has no scheme; did you mean tcp://[::1]:9000?"),
        ("", "*** has no scheme; write it as scheme://host:port"),
        ("somewhere", "*** has no scheme; write it as scheme://host:port"),
        (":9000", ":9000 has no scheme; write it as scheme://host:port"),
        ("://h:1", "*** has no scheme; write it as scheme://host:port"),
        ("tcp_x://h:1", "*** has no scheme; write it as scheme://host:port"),
        ("tcp://h:1#x", "tcp://***: a URL here has no fragment; write '#' as %23"),
        (
            "tcp://h:1\n",
            "tcp://***: a URL holds no white space or control characters, and character 10 is '\\n'; "
            "remove it, or write it as %0A",
        ),
        (
            "tcp://h :1",
            "tcp://***: a URL holds no white space or control characters, and character 8 is ' '; "
            "remove it, or write it as %20",
        ),
        (
            "tcp://h\N{NO-BREAK SPACE}:1",
            "tcp://***: a URL holds no white space or control characters, and character 8 is '\\xa0'; "
            "remove it, or write it as %C2%A0",
        ),
        (
            "unix://@name",
            "unix://***@name: no user stands before '@'; leave the '@' out, "
            "or write unix:@name for a name without a host",
        ),
        (
            "tcp://u:p@ss@h:1",
            "tcp://***@h:1: only the '@' between user and host stands for itself; write any other as %40, "
            "and in a password also '/' as %2F and '?' as %3F: tcp://user:password@host:port",
        ),
        (
            "tcp://u:50%@h:1",
            "tcp://***@h:1: user or password: '%' is not followed by two hexadecimal digits; write it as %25",
        ),
        (
            "tcp://u:%FC@h:1",
            "tcp://***@h:1: user or password: what is percent-encoded is not UTF-8; write ü as %C3%BC",
        ),
        (
            "unix:/100%",
            "unix:/100%: path: '%' is not followed by two hexadecimal digits; write it as %25",
        ),
    ],
)
def test_what_is_no_url(url: str, text: str) -> None:
    """The error says what to write instead."""
    with pytest.raises(InvalidEndpoint) as raised:
        Endpoint.parse(url)

    assert str(raised.value) == text


@pytest.mark.parametrize(
    "url",
    [
        "tcp://u:p/ss@h:1",
        "tcp://u:p?ss@h:1",
        "tcp://u:p?s=s@h:1",
        "tcp:u:p@h:1",
        "u:p@h:1",
        "u:/p@h:1",
        "tcp://h:1?a=b@c",
    ],
)
def test_at_sign_elsewhere(url: str) -> None:
    """It may end a password that was not encoded, so that a part of it is taken for host or options."""
    with pytest.raises(InvalidEndpoint, match="write any other as %40"):
        Endpoint.parse(url)


@pytest.mark.parametrize(
    "url,text",
    [
        ("tcp://h:1?timeout", "tcp://h:1: option 1 is not written as name=value"),
        ("tcp://h:1?a=1&", "tcp://h:1: option 2 is not written as name=value"),
        ("tcp://h:1?=1", "tcp://h:1: option 1 is not written as name=value"),
        ("tcp://h:1?a%0Ab=1", "tcp://h:1: option 1 is not written as name=value"),
        ("tcp://h:1?a=1&b=2&a=1", "tcp://h:1: the option a stands there twice; leave one out"),
        ("tcp://h:1?a=1&%61=2", "tcp://h:1: the option a stands there twice; leave one out"),
    ],
)
def test_malformed_options(url: str, text: str) -> None:
    """A repeated option is not settled by taking the last."""
    with pytest.raises(InvalidOption) as raised:
        Endpoint.parse(url)

    assert str(raised.value) == text


@pytest.mark.parametrize("value", ["50%", "%zz", "%4", "%FC"])
def test_malformed_option_value(value: str) -> None:
    """What is not encoded properly is not guessed."""
    with pytest.raises(InvalidEndpoint, match="tcp://h:1: option a: "):
        Endpoint.parse(f"tcp://h:1?a={value}")


@pytest.mark.parametrize(
    "url,text",
    [
        ("tcp://", "tcp:// names no host; write it as tcp://host:port"),
        ("tcp://:9000", "tcp://:9000 names no host; write it as tcp://host:port"),
        ("tcp:h:9000", "names no host; write it as tcp://host:port"),
        ("tcp:/h:9000", "names no host; write it as tcp://host:port"),
        ("tcp:///h", "tcp:///h names no host; write it as tcp://host:port"),
        ("tcp://%00:1", "tcp://%00:1: no host has white space or control characters in its name"),
        ("tcp://a%20b:1", "tcp://a%20b:1: no host has white space or control characters in its name"),
        ("tcp://::1:9000", "write an IPv6 address in brackets, as [::1]:9000"),
        ("tcp://[::1:9000", "write an IPv6 address in brackets, as [::1]:9000"),
        ("tcp://[::1]x:9000", "write an IPv6 address in brackets, as [::1]:9000"),
        ("tcp://[localhost]:9000", "what stands in brackets is no IPv6 address, such as [::1]"),
        ("tcp://[]:9000", "what stands in brackets is no IPv6 address, such as [::1]"),
        ("tcp://h:port", "the port is not a number from 0 to 65535; write it as host:port"),
        ("tcp://h%zz:1", "host: '%' is not followed by two hexadecimal digits; write it as %25"),
    ],
)
def test_no_host(url: str, text: str) -> None:
    """Who asks for the host learns what is wrong with it."""
    endpoint = Endpoint.parse(url)
    with pytest.raises(InvalidEndpoint) as raised:
        _ = endpoint.host

    assert str(raised.value).endswith(text)


@pytest.mark.parametrize(
    "url,text",
    [
        ("tcp://h", "tcp://h names no port; write it as tcp://host:port"),
        ("tcp://h:", "tcp://h: names no port; write it as tcp://host:port"),
        ("tcp://[::1]", "tcp://[::1] names no port; write it as tcp://host:port"),
        ("stdout:", "stdout: names no host; write it as stdout://host:port"),
        ("tcp://h:65536", "tcp://h:65536: the port is not a number from 0 to 65535"),
        ("tcp://h:" + "9" * 5000, "the port is not a number from 0 to 65535"),
        ("tcp://h:-1", "the port is not a number from 0 to 65535; write it as host:port"),
        ("tcp://h:٣", "the port is not a number from 0 to 65535; write it as host:port"),
    ],
)
def test_no_port(url: str, text: str) -> None:
    """The same for the port: a number of ASCII digits."""
    endpoint = Endpoint.parse(url)
    with pytest.raises(InvalidEndpoint) as raised:
        _ = endpoint.port

    assert str(raised.value).endswith(text)


def test_port_of_a_consumer() -> None:
    """It is one at which somebody can be: 0 is for listeners, which get any free one."""
    assert Endpoint.parse("udp://h:9").consumer_port == 9
    assert Endpoint.parse("udp://h:0").port == 0
    with pytest.raises(InvalidEndpoint) as raised:
        _ = Endpoint.parse("udp://h:0").consumer_port

    assert str(raised.value) == "udp://h:0: nobody is at port 0; name the port at which the consumer listens"


@pytest.mark.parametrize(
    "url,text",
    [
        ("tcp://user@h:1", "tcp has no users and passwords; leave out '@' and what stands before it"),
        ("tcp://h:1/path", "tcp has no path; write it as tcp://host:port"),
        ("tcp:h:1", "names no host, for want of '//'; write it as tcp://host:port"),
        ("tcp:/h:1", "names no host, for want of '//'; write it as tcp://host:port"),
    ],
)
def test_more_than_host_and_port(url: str, text: str) -> None:
    """A transport that has no use for the rest of a URL says so, instead of dropping it silently."""
    with pytest.raises(InvalidEndpoint) as raised:
        Endpoint.parse(url).no_more_than_host_and_port()

    assert str(raised.value).endswith(text)


@pytest.mark.parametrize("thing", [9000, None, b"tcp://user:hunter2@h:1", ("h", 1)])
def test_what_is_no_text(thing: Any) -> None:
    """It is refused as other URLs are that are none, and not shown: a secret may be in it."""
    with pytest.raises(InvalidEndpoint, match=r"^a URL is a text such as tcp://host:port, not ") as raised:
        Endpoint.parse(thing)

    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("url", ["tcp://h:1", "tcp://h:1/", "tcp://h:1/?a=1"])
def test_no_more_than_host_and_port(url: str) -> None:
    """A slash at the end is nothing, and options are allowed."""
    Endpoint.parse(url).no_more_than_host_and_port()


@pytest.mark.parametrize(
    "url,text",
    [
        ("unix://run/x.sock?a=1", "unix has no host; write it as unix:///run/x.sock"),
        ("unix://x", "unix has no host; write it as unix:///x"),
        ("unix://user:secret@run/x.sock", "leave out '@' and what stands before it"),
    ],
)
def test_more_than_a_path(url: str, text: str) -> None:
    """What looks like a path may be a host, and the error says where a slash is missing."""
    with pytest.raises(InvalidEndpoint) as raised:
        Endpoint.parse(url).no_more_than_path()

    assert str(raised.value).endswith(text)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize("url", ["unix:///run/x.sock?a=1", "unix:/run/x.sock", "unix:@name", "unix:"])
def test_no_more_than_a_path(url: str) -> None:
    """Both ways to write a path, a name, and nothing at all are no more than a path."""
    Endpoint.parse(url).no_more_than_path()


# -- others made from it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url,host,raw",
    [
        ("tcp://localhost:0?a=1", "127.0.0.1", "tcp://127.0.0.1:50123?a=1"),
        ("ws://u:p@h:0/in", "::1", "ws://u:p@[::1]:50123/in"),
        ("tcp://:0", "fe80::1%eth0", "tcp://[fe80::1%25eth0]:50123"),
        ("tcp://[::1]:0", "bücher.example", "tcp://b%C3%BCcher.example:50123"),
    ],
)
def test_at_another_address(url: str, host: str, raw: str) -> None:
    """All but host and port stays, and what comes out can be read again."""
    moved = Endpoint.parse(url).at(host, 50123)

    assert moved.raw == raw
    assert (moved.host, moved.port) == (host, 50123)
    assert Endpoint.parse(moved.raw) == moved
    assert moved.options == Endpoint.parse(url).options


def test_at_another_address_without_a_host() -> None:
    """What has no address cannot have another."""
    with pytest.raises(InvalidEndpoint, match="names no host"):
        Endpoint.parse("unix:@name").at("h", 1)


def test_without_options() -> None:
    """What is left is written as it was, and reads the same."""
    endpoint = Endpoint.parse("tcp://u:p%40@h:1/x?a=1%262&b=%2F&%63=3")
    left = endpoint.without(["a", "c", "z"])

    assert left.raw == "tcp://u:p%40@h:1/x?b=%2F"
    assert left.options == {"b": "/"}
    assert Endpoint.parse(left.raw) == left
    assert left.without(["b"]).raw == "tcp://u:p%40@h:1/x"
    assert endpoint.without(["z"]) is endpoint


def test_hidden_options_stay_hidden() -> None:
    """What a transport declares as secret shows in none of the endpoints made from it."""
    endpoint = Endpoint.parse("tcp://h:1?note=secret1&a=1").hiding(["note"]).hiding(["other"])

    assert str(endpoint) == "tcp://h:1?note=***&a=1"
    assert str(endpoint.at("i", 2).without(["a"])) == "tcp://i:2?note=***"
    assert repr(endpoint) == "<Endpoint tcp://h:1?note=***&a=1>"
    assert repr(endpoint.options) == "<options note, a>"


@pytest.mark.parametrize(
    "place,yes",
    [
        ("letters", False),
        ("/var/lib/letters", False),
        ("./tcp:", False),
        ("a:b", False),
        ("tcp://127.0.0.1:9000", True),
        ("memory:letters", True),
        ("tcp+tls://h:1", True),
    ],
)
def test_folder_or_consumer(place: str, yes: bool) -> None:
    """What begins like a URL is one; a path that would is written with ./ before it."""
    assert is_url(place) is yes

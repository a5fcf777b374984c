"""Secrets stay hidden: in well-formed URLs, and wherever a password may stand in malformed ones."""

import traceback
from collections.abc import Callable, Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from producer_pool.model.endpoint import Endpoint, is_secret_option, redact
from producer_pool.model.errors import ConfigurationError

MARK = "S3cretMark"

nasty = st.text("@:/?#[]%&;,. \n\t\0'\"\\é℀\N{NO-BREAK SPACE}\N{FULLWIDTH COMMERCIAL AT}u1", max_size=3)
# `user:///password@host` is a file of that name, for all that can be told.
passwords = st.builds(
    lambda before, after: before + MARK + after, nasty.filter(lambda text: text != "///"), nasty
)

urls_with_userinfo = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(["tcp", "tcp+tls", "TCP", "unix", "", "1x", "tcp_x", " tcp"]),
    st.sampled_from(["://", ":", ":/", ":///", ":////", "//", "", "://://"]),
    st.sampled_from(["user", "", "us er", "u%40", "user@corp", "user:name", "@user", "12"]),
    st.just(":"),
    passwords,
    st.just("@"),
    st.sampled_from(["h", "127.0.0.1", "[::1]", "::1", "[fe80::1%eth0]", "b1:9,b2:9", "ho℀st", "", "[h"]),
    st.sampled_from(["", ":9", ":x", ":99999", ":", ":9:9"]),
    st.sampled_from(["", "/", "/path", "/pa@th", "/a:b", "\n"]),
    st.sampled_from(["", "?", "?a=1", "?a", "?a=1&a=2", "?a=b@c", "?a=%zz", "#f"]),
)

urls_with_secret_option = st.builds(
    lambda *parts: "".join(parts),
    st.sampled_from(
        ["tcp://h:1", "tcp://u:p@h:1", "unix:/path", "stdout:", "tcp:h:1", "h:1", "tcp://h:x", ""]
    ),
    st.sampled_from(["?", "/?", "?a=1&", "?a&", "??"]),
    st.sampled_from(["password", "Password", "api_key", "pass%77ord", "access-token", "pw", "key", "extra"]),
    st.just("="),
    passwords,
    st.sampled_from(["", "&a=2", "&", "#f"]),
)


def every_text(url: str) -> Iterator[str]:
    """Yield all that can be shown of *url*, and of all errors that can come of it."""
    yield redact(url, {"extra"})
    try:
        endpoint = Endpoint.parse(url).hiding(["extra"])
    except ConfigurationError as error:
        yield from texts_of(error)
        return
    uses: list[Callable[[], object]] = [
        lambda: endpoint.host,
        lambda: endpoint.port,
        lambda: endpoint.without(["a"]),
        lambda: endpoint.at("::1", 5),
        endpoint.no_more_than_host_and_port,
        lambda: f"{endpoint} {endpoint!r} {endpoint.options} {endpoint.options!r}",
        lambda: endpoint.scrub(f"cannot use {url}"),
        lambda: [endpoint],
    ]
    for use in uses:
        try:
            yield f"{use()} {use()!r}"
        except ConfigurationError as error:
            yield from texts_of(error)


def texts_of(error: BaseException) -> Iterator[str]:
    """Yield what *error* and all that hangs on it say, also what a traceback would leave out."""
    yield "".join(traceback.format_exception(error))
    seen: list[BaseException] = [error]
    for one in seen:
        yield f"{one} {one!r} {one.args}"
        seen += [other for other in (one.__cause__, one.__context__) if other and other not in seen]


@given(urls_with_userinfo)
@example(f"tcp://user:{MARK}#x@h:1")
@example(f"tcp://user:x?{MARK}@h:1")
@example(f"tcp://user:x?{MARK}=1@h:1")
@example(f"tcp://user:1?{MARK}=1@h:1")
@example(f"tcp://user:x/{MARK}@h:1")
@example(f"tcp://user:x@{MARK}@h:1")
@example(f"tcp://user:x@{MARK}@h:1/p@q")
@example(f"tcp://user:{MARK}@ho℀st:1")
@example(f"tcp:user:{MARK}@h:9")
@example(f"user:{MARK}@h:9")
@example(f"user:/{MARK}@h:9")
def test_password_before_the_host(url: str) -> None:
    """However the URL is written, the password shows in no text, no repr and no error."""
    assert [text for text in every_text(url) if MARK in text] == []


@given(urls_with_secret_option)
@example(f"tcp://h:1?password=x&{MARK}")
@example(f"tcp://h:1?extra={MARK}&")
@example(f"tcp://h:1?password=x@{MARK}")
@example(f"tcp://h:1?pass%77ord={MARK}")
@example(f"tcp://h:1?password={MARK}&password={MARK}")
def test_secret_option(url: str) -> None:
    """The same for the value of an option that speaks of a secret, or that was declared as one."""
    assert [text for text in every_text(url) if MARK in text] == []


@pytest.mark.parametrize("url", [f"tcp://user:{MARK}", f"tcp:/user:{MARK}", f"tcp:///user:{MARK}"])
def test_host_is_missing(url: str) -> None:
    """What stands where a port should be is not shown unless it is a number."""
    assert [text for text in every_text(url) if MARK in text] == []


@pytest.mark.parametrize(
    "url,shown",
    [
        ("tcp://127.0.0.1:9000", "tcp://127.0.0.1:9000"),
        ("tcp://user:secret@h:1/path?timeout=5s", "tcp://***@h:1/path?timeout=5s"),
        ("tcp://token@h:1", "tcp://***@h:1"),
        ("tcp://h:1?token=abc&timeout=5s", "tcp://h:1?token=***&timeout=5s"),
        ("tcp://h:1?token-file=/run/token&tls-key=/k", "tcp://h:1?token-file=/run/token&tls-key=/k"),
        ("tcp://h:1?token=", "tcp://h:1?token="),
        ("tcp://h:1?dead-letters=ws://h:2/%3Fa=b&x=1", "tcp://h:1?dead-letters=ws://h:2/%3Fa=b&x=1"),
        ("tcp://h:1?dead-letters=ws%3A//user%3Asecret%40h&x=1", "tcp://h:1?dead-letters=***&x=1"),
        ("tcp://h:1?dead-letters=ws://h/?token=abc", "tcp://h:1?dead-letters=***"),
        ("tcp://h:1?dead-letters=ws://h/%3Fto%6ben=abc", "tcp://h:1?dead-letters=***"),
        ("tcp://h:1?a=ws://h/?a=ws://h/?a=ws://h", "tcp://h:1?a=***"),
        ("tcp://h:1?verbose", "tcp://h:1?***"),
        ("tcp://h:1?", "tcp://h:1?"),
        ("tcp://[fe80::1%25eth0]:1", "tcp://[fe80::1%25eth0]:1"),
        ("kafka://u:p@b1:9092,b2:9092/topic", "kafka://***@b1:9092,b2:9092/topic"),
        ("unix:@name", "unix:@name"),
        ("unix:///run/user@1000/a.sock", "unix:///run/user@1000/a.sock"),
        ("unix:/run/a:b.sock?mode=600", "unix:/run/a:b.sock?mode=600"),
        ("memory:x", "memory:x"),
        ("stdout:", "stdout:"),
        ("127.0.0.1:9000", "127.0.0.1:9000"),
        ("tcp://u:p@ss@h:1", "tcp://***@h:1"),
        ("u:p@h:1", "***@h:1"),
        ("tcp://u:p@h:1\n", "tcp://***"),
        ("not a URL", "***"),
        ("", "***"),
    ],
)
def test_what_is_shown(url: str, shown: str) -> None:
    """Enough to tell one URL from another, as long as it is known to be harmless."""
    assert redact(url) == shown


@pytest.mark.parametrize(
    "name",
    ["password", "PASSWORD", "db-password", "passphrase", "api_key", "apikey", "access-token", "pw", "key"],
)
def test_option_that_speaks_of_a_secret(name: str) -> None:
    """Its name is enough, in whatever spelling."""
    assert is_secret_option(name)


@pytest.mark.parametrize("name", ["timeout", "tls-key", "password-file", "token_file", "keepalive"])
def test_option_that_does_not(name: str) -> None:
    """The name of a file is no secret, though the file holds one."""
    assert not is_secret_option(name)


@given(st.text(min_size=1), st.sampled_from(["{}", "it was {!r}", "bad value {}!"]))
def test_scrub_foreign_text(secret: str, template: str) -> None:
    """A plugin's own error shows no spelling of a secret of the URL that it was given."""
    quoted = "".join(f"%{byte:02x}" for byte in secret.encode(errors="replace"))
    endpoint = Endpoint.parse(f"tcp://user:{quoted}@h:1?token={quoted}&note={quoted}").hiding(["note"])
    assert endpoint.password is not None
    marked = endpoint.password + MARK
    endpoint = Endpoint.parse(
        f"tcp://user:{quoted}{MARK}@h:1?token={quoted}{MARK}&note={quoted}{MARK}"
    ).hiding(["note"])
    for spelling in (marked, quoted + MARK, endpoint.raw):
        assert MARK not in endpoint.scrub(template.format(spelling))


def test_scrub_leaves_the_rest() -> None:
    """What is no secret stays readable."""
    endpoint = Endpoint.parse("tcp://user:hunter2@h:1?timeout=5s")

    assert endpoint.scrub("user 'user' failed with hunter2 at h:1 after 5s") == (
        "user 'user' failed with *** at h:1 after 5s"
    )

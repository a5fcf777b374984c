"""What is measured: schemes with options, and where these go."""

from pathlib import Path

import pytest

from producer_pool.cli.benching.certificate import make_certificate
from producer_pool.cli.benching.ways import Way
from producer_pool.discovery.registry import Registry
from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import ConfigurationError, InvalidOption, UnknownScheme

HERE = "tcp://127.0.0.1:9000"


def way(text: str, **only: dict[str, str]) -> Way:
    """Return the way that *text* means."""
    return Way.of(text, Registry(), only.get("client", {}), only.get("listener", {}))


def options(url: str) -> dict[str, str]:
    """Return the options of a URL."""
    return dict(Endpoint.parse(url).options)


def test_options_go_to_the_ends_that_have_them(tmp_path: Path) -> None:
    """Those of clients, of listeners, of both, and of delivery are told apart by their names."""
    one = way("tcp?max-message=2KiB&idle-timeout=9s&buffer=1MiB&user-timeout=3s")

    assert options(one.listener_url(tmp_path)) == {"max-message": "2KiB", "idle-timeout": "9s"}
    assert options(one.producer_url(HERE, tmp_path)) == {"max-message": "2KiB", "user-timeout": "3s"}
    assert options(one.consumer_url(HERE, tmp_path)) == {
        "max-message": "2KiB", "user-timeout": "3s", "buffer": "1MiB",
    }  # fmt: skip
    one.check(tmp_path)


def test_options_for_one_end_only(tmp_path: Path) -> None:
    """What is given for an end by itself goes there alone."""
    one = way("tcp", client={"max-message": "2KiB"}, listener={"max-message": "3KiB"})

    assert options(one.listener_url(tmp_path)) == {"max-message": "3KiB"}
    assert options(one.producer_url(HERE, tmp_path)) == {"max-message": "2KiB"}


def test_consumers_answer_where_the_relay_waits_for_it(tmp_path: Path) -> None:
    """With ack=app, listeners are told after what they have to answer, unless somebody said it."""
    assert options(way("tcp?ack=app").listener_url(tmp_path)) == {"ack-after": "received"}
    assert options(way("tcp?ack=app&ack-after=delivered").listener_url(tmp_path)) == {
        "ack-after": "delivered"
    }
    assert options(way("tcp?ack=written").listener_url(tmp_path)) == {}


def test_loopback_options_are_kept(tmp_path: Path) -> None:
    """What a transport needs so that messages arrive as they were sent stays with its listeners."""
    one = way("udp")

    assert options(one.listener_url(tmp_path)) == {"strip": "no"}
    assert options(one.producer_url("udp://127.0.0.1:9?strip=no", tmp_path)) == {}


def test_each_end_has_a_place(tmp_path: Path) -> None:
    """A scheme whose ends meet at a file gets a folder for it."""
    assert way("unix").listener_url(tmp_path).startswith(f"unix://{tmp_path}/")
    assert way("unix:{tmp}/my.sock").listener_url(tmp_path) == f"unix:{tmp_path}/my.sock"


def test_unknown_scheme_says_what_to_do() -> None:
    """One that is not installed is refused as everywhere."""
    with pytest.raises(UnknownScheme, match=r"no installed plugin handles tpc://; .* did you mean tcp"):
        way("tpc")


def test_unknown_option_says_what_there_is() -> None:
    """A misspelt option is refused with the nearest one."""
    with pytest.raises(InvalidOption, match=r"tcp has no option bufer; .*did you mean buffer"):
        way("tcp?bufer=1MiB")


@pytest.mark.parametrize("scheme", ["null", "ws+serve"])
def test_one_end_is_not_enough(scheme: str) -> None:
    """A scheme that cannot listen cannot be measured, and the error says why."""
    with pytest.raises(ConfigurationError, match=r"only sends, .* such as tcp"):
        way(scheme)


def test_bad_value_is_told_before_anything_starts(tmp_path: Path) -> None:
    """The value of an option is looked at by check()."""
    with pytest.raises(InvalidOption, match="idle-timeout"):
        way("tcp?idle-timeout=soon").check(tmp_path)


def test_secrets_are_hidden() -> None:
    """What is shown of a way has no secret of it."""
    one = way("ws://me:hunter2@127.0.0.1:0?timeout=3s")

    assert "hunter2" not in one.text + repr(one)
    assert one.text.endswith("@127.0.0.1:0?timeout=3s")


def test_certificate_is_made_and_trusted(tmp_path: Path) -> None:
    """Where a protocol has TLS and nobody names a certificate, one is made that the other end trusts."""
    one = way("tcp+tls")
    assert one.wants_certificate
    assert not way("tcp").wants_certificate
    assert not way("tcp+tls", listener={"tls-cert": "x"}).wants_certificate

    make_certificate(tmp_path)
    made = one.certified(tmp_path)
    made.check(tmp_path)
    assert not made.wants_certificate


def test_no_openssl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is nothing to make a certificate with, the error says how to name one."""
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigurationError, match=r"no openssl here .* --listener-option tls-cert=FILE"):
        make_certificate(tmp_path)

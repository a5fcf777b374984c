"""Tokens and headers from files: read, checked, and not shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer_pool.model.endpoint import Endpoint
from producer_pool.model.errors import InvalidEndpoint, InvalidOption
from producer_pool_websocket.credentials import authorization, read_headers, read_token


def test_token_of_a_file(tmp_path: Path) -> None:
    """White space around it is no part of it: editors end the last line."""
    path = tmp_path / "token"
    path.write_text("  abc.DEF-123_~+/==\n")

    assert read_token(path, where="ws") == "abc.DEF-123_~+/=="


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"two\nlines", b"gr\xc3\xbcn", b"a\r\nX: y"])
def test_files_without_a_token(tmp_path: Path, content: bytes) -> None:
    """A token that cannot be sent is refused at once, and not shown."""
    path = tmp_path / "token"
    path.write_bytes(content)
    with pytest.raises(InvalidOption, match=r"^ws: token-file=") as caught:
        read_token(path, where="ws")

    assert "two" not in str(caught.value).replace(str(path), "")
    assert caught.value.__context__ is None


def test_file_that_is_not_there(tmp_path: Path) -> None:
    """The error names option, file and cause."""
    with pytest.raises(InvalidOption, match=r"cannot read token-file=.*none: no such file"):
        read_token(tmp_path / "none", where="ws")


def test_headers_of_a_file(tmp_path: Path) -> None:
    """One a line, in their order; empty lines are nothing."""
    path = tmp_path / "headers"
    path.write_text("X-Room: 5\n\nAuthorization:Bearer abc \nX-Empty:\n")

    assert read_headers(path, where="ws") == [
        ("X-Room", "5"),
        ("Authorization", "Bearer abc"),
        ("X-Empty", ""),
    ]


@pytest.mark.parametrize(
    "line,why",
    [
        ("no colon, but secret", "line 2 is not written as Name: value"),
        ("bad name: secret", "line 2 is not written"),
        ("X: secret\x00", "line 2 is not written"),
        ("Host: secret", "line 2: Host is not yours to send"),
        ("sec-websocket-key: secret", "line 2: sec-websocket-key is not yours"),
        ("Content-Length: 5", "Content-Length is not yours"),
        ("origin: https://secret.example", "origin is not yours to send; .*origin="),
    ],
)
def test_lines_that_are_no_headers(tmp_path: Path, line: str, why: str) -> None:
    """The error says which line, and not what stands there."""
    path = tmp_path / "headers"
    path.write_text(f"X-Good: 1\n{line}\n")
    with pytest.raises(InvalidOption, match=why) as caught:
        read_headers(path, where="ws")

    assert "secret" not in str(caught.value).replace(str(path), "")


@pytest.mark.parametrize(
    "url,token,expected",
    [
        ("ws://here:1", None, None),
        ("ws://here:1", "abc", "Bearer abc"),
        ("ws://user:p%40ss@here:1", None, "Basic dXNlcjpwQHNz"),
        ("ws://user@here:1", None, "Basic dXNlcjo="),
    ],
)
def test_what_proves_who_we_are(url: str, token: str | None, expected: str | None) -> None:
    """A token, or the user of the URL, decoded: RFC 6750 and RFC 7617."""
    assert authorization(Endpoint.parse(url), token) == expected


def test_user_with_a_colon() -> None:
    """It could not be told from the password (RFC 7617, 2), which is not shown."""
    with pytest.raises(InvalidEndpoint, match="no colon") as caught:
        authorization(Endpoint.parse("ws://us%3Aer:secret@here:1"), None)

    assert "secret" not in str(caught.value)

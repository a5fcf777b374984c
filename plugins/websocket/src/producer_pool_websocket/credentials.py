"""What proves who somebody is, read from files: it stands in no URL, and in no error."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Final

from producer_pool.plugin import Endpoint, InvalidEndpoint, InvalidOption, why

__all__ = ["authorization", "read_headers", "read_token"]

_TOKEN: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*\Z")
"""RFC 6750, section 2.1."""
_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+\Z")
"""RFC 9110, section 5.6.2."""
_VALUE: Final = re.compile(r"[\t\x20-\x7e]*\Z")
_OURS: Final = re.compile(
    r"(?:host|upgrade|connection|content-length|transfer-encoding|origin|sec-websocket-.*)\Z"
)
"""Headers that the handshake itself makes."""


def read_token(path: Path, *, where: str) -> str:
    """
    Return the token in a file.

    Raises:
        InvalidOption: the file cannot be read, or holds no token. The text does not show what it holds.
    """
    token = _read("token-file", path, where).strip()
    if not _TOKEN.match(token):
        raise InvalidOption(
            f"{where}: token-file={path} holds no token: one line of letters, digits and -._~+/ is needed"
        )
    return token


def read_headers(path: Path, *, where: str) -> list[tuple[str, str]]:
    """
    Return the header lines in a file.

    Raises:
        InvalidOption: the file cannot be read, or a line is none. The text names its number only.
    """
    headers = []
    for number, line in enumerate(_read("headers-file", path, where).splitlines(), 1):
        if not line.strip():
            continue
        name, colon, value = line.partition(":")
        value = value.strip()
        if not (colon and _NAME.match(name) and _VALUE.match(value)):
            raise InvalidOption(f"{where}: headers-file={path}, line {number} is not written as Name: value")
        if _OURS.match(name.lower()):
            raise InvalidOption(
                f"{where}: headers-file={path}, line {number}: {name} is not yours to send; what can be said "
                "there has options: origin=, subprotocol=, compression="
            )
        headers.append((name, value))
    return headers


def authorization(endpoint: Endpoint, token: str | None) -> str | None:
    """
    Return the value of the Authorization header for a token, or the user in a URL; None: there is none.

    Raises:
        InvalidEndpoint: the user is none that can be sent (RFC 7617, 2).
    """
    if token is not None:
        return f"Bearer {token}"
    if endpoint.username is None:
        return None
    if ":" in endpoint.username:
        raise InvalidEndpoint(f"{endpoint}: a user has no colon in its name")
    pair = f"{endpoint.username}:{endpoint.password or ''}"
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _read(name: str, path: Path, where: str) -> str:
    try:
        return path.read_text("ascii")
    except OSError as error:
        fault = f"cannot read {name}={path}: {why(error)}"
    except UnicodeDecodeError:
        fault = f"{name}={path} holds other characters than those of ASCII"
    # Not in the handler: the error there holds what was read.
    raise InvalidOption(f"{where}: {fault}")

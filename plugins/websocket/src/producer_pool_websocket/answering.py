"""The listener's side of the opening handshake: who may come in, and what the others are told."""
# Rule: bytes in, bytes out; no socket and no clock. No text holds a credential.

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final, NamedTuple
from urllib.parse import parse_qs, unquote

from websockets.datastructures import MultipleValuesError
from websockets.http11 import Request as HttpRequest
from websockets.server import ServerProtocol
from websockets.typing import Subprotocol

from producer_pool.plugin import Endpoint, InvalidEndpoint
from producer_pool_websocket.compression import Inflater, server_extensions
from producer_pool_websocket.credentials import read_token
from producer_pool_websocket.http_head import END, MOST, QUIET, check_words
from producer_pool_websocket.options import ServerOptions

__all__ = ["Answer", "House", "Request", "refusal"]

_EXTRA: Final = {
    HTTPStatus.UNAUTHORIZED: 'WWW-Authenticate: Bearer realm="producer-pool"\r\n',
    HTTPStatus.METHOD_NOT_ALLOWED: "Allow: GET\r\n",
    HTTPStatus.UPGRADE_REQUIRED: "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n",
}
_ABSOLUTE: Final = re.compile(r"\Ahttps?://[^/?]*/?", re.IGNORECASE)
"""What may stand before the path in a request: RFC 9112, 3.2.2."""
_VERSION: Final = "13"
_TLS: Final = b"\x16"
"""The first byte of a TLS handshake: RFC 8446, 5.1."""
_ORIGIN: Final = "Add it to origin= in the URL of the listener, if it may connect."
_REASONS: Final = {
    HTTPStatus.BAD_REQUEST: "This request breaks the rules of the websocket handshake (RFC 6455, 4.2).",
    HTTPStatus.UNAUTHORIZED: "A token is needed: as Authorization: Bearer, or as access_token= after the ?.",
    HTTPStatus.NOT_FOUND: "Nobody listens at this path.",
    HTTPStatus.METHOD_NOT_ALLOWED: "A websocket begins with a GET request.",
    HTTPStatus.REQUEST_TIMEOUT: "The request took too long.",
    HTTPStatus.UPGRADE_REQUIRED: "This is a websocket: connect with a websocket client.",
    HTTPStatus.SERVICE_UNAVAILABLE: "This listener is closing.",
}


class Answer(NamedTuple):
    """What is said to a request."""

    data: bytes
    refused: str
    """Why it was refused, for the log; empty: it was not."""
    inflater: Inflater | None = None
    """What decompresses messages, if that was agreed on."""


@dataclass(frozen=True)
class House:
    """The rules of one listener, for all who connect."""

    path: str
    """Decoded."""
    options: ServerOptions
    token: str | None = field(repr=False)
    compresses: bool = False

    @classmethod
    def of(cls, endpoint: Endpoint, options: ServerOptions, *, compresses: bool = False) -> House:
        """
        Return the rules that a URL makes.

        Raises:
            InvalidEndpoint: it has a user.
            InvalidOption: an option, or the file that it names, holds what cannot be used.
        """
        if endpoint.username is not None:
            raise InvalidEndpoint(
                f"{endpoint}: there is no user here; token-file= asks those who connect for a token"
            )
        where = f"{endpoint.without(endpoint.options)}"
        check_words(options.subprotocol, *options.origin, where=where)
        token = None if options.token_file is None else read_token(options.token_file, where=where)
        return cls(endpoint.path or "/", options, token, compresses)

    def answer(self, head: bytes) -> Answer:
        """Answer a request, of which all is there: its head."""
        words = head.partition(b"\r\n")[0].split(b" ")
        if len(words) == 3 and words[0] != b"GET":
            return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "no GET request")
        if words[2:] == [b"HTTP/1.0"]:
            return refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "of HTTP/1.0")
        protocol = ServerProtocol(
            extensions=server_extensions() if self.compresses else None,
            subprotocols=[Subprotocol(name) for name in self.options.subprotocol] or None,
            logger=QUIET,
        )
        protocol.receive_data(head)
        request = next(iter(protocol.events_received()), None)
        if not isinstance(request, HttpRequest):
            return refusal(HTTPStatus.BAD_REQUEST, "no request of HTTP/1.1")
        try:
            refused = self._refuse(request)
        except MultipleValuesError:
            refused = refusal(HTTPStatus.BAD_REQUEST, "a header that may stand there once stands there twice")
        if refused is not None:
            return refused
        response = protocol.accept(request)
        if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
            status = HTTPStatus(response.status_code)
            offers = self.options.subprotocol and status == HTTPStatus.BAD_REQUEST
            listed = ", ".join(self.options.subprotocol)
            hint = f"; is it that it offers none of these: {listed} (subprotocol=)?" if offers else ""
            return refusal(status, f"no handshake of websocket{hint}")
        protocol.send_response(response)
        inflater = Inflater(protocol.extensions) if protocol.extensions else None
        return Answer(b"".join(protocol.data_to_send()), "", inflater)

    def _refuse(self, request: HttpRequest) -> Answer | None:
        """Return why a request is refused, though it may be a good one; None: it is not."""
        if request.headers.get("Host") is None:
            return refusal(HTTPStatus.BAD_REQUEST, "without a Host header")
        path, _, query = _ABSOLUTE.sub("/", request.path).partition("?")
        if self.token is not None and not self._has_token(request, query):
            return refusal(HTTPStatus.UNAUTHORIZED, "without the right token (token-file=)")
        if unquote(path, errors="replace") != self.path:
            return refusal(HTTPStatus.NOT_FOUND, f"it asks for {_shown(path)}, and this is {self.path}")
        origin = request.headers.get("Origin")
        if origin is None:
            if self.options.require_origin:
                text = "Only pages may connect here, and no Origin header says which one this is."
                return refusal(HTTPStatus.FORBIDDEN, "without an origin (require-origin=yes)", text)
        elif not {origin, "*"} & set(self.options.origin):
            text = f"The origin {_shown(origin)} is not allowed here. {_ORIGIN}"
            return refusal(HTTPStatus.FORBIDDEN, f"from the page {_shown(origin)} (origin=)", text)
        if request.headers.get("Sec-WebSocket-Version", _VERSION) != _VERSION:
            return refusal(HTTPStatus.UPGRADE_REQUIRED, "of another version of websocket than 13")
        return None

    def _has_token(self, request: HttpRequest, query: str) -> bool:
        assert self.token is not None
        kind, _, given = request.headers.get("Authorization", "").partition(" ")
        if kind.lower() != "bearer":
            # A browser lets no page set that header: RFC 6750, 2.3.
            given = (parse_qs(query).get("access_token") or [""])[0]
        return hmac.compare_digest(given.strip().encode(errors="replace"), self.token.encode())


class Request:
    """What comes of one request, until there is an answer."""

    __slots__ = ("_head", "_house")

    def __init__(self, house: House) -> None:
        self._house = house
        self._head = b""

    def feed(self, data: bytes | memoryview) -> tuple[Answer | None, bytes]:
        """
        Take a part of it; return the answer, and what came after the request.

        There is none as long as this may become a good request.
        """
        self._head += data
        if not self._head[:1].isalpha():
            what = "it speaks TLS; is wss:// meant?" if self._head[:1] == _TLS else "it does not speak HTTP"
            return refusal(HTTPStatus.BAD_REQUEST, what), b""
        end = self._head.find(END)
        if end < 0 and len(self._head) <= MOST:
            return None, b""
        head, rest = self._head[: end + len(END)], self._head[end + len(END) :]
        if end < 0 or len(head) > MOST:
            too_long = f"the head of its request has more than {MOST} bytes"
            return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, too_long), b""
        return self._house.answer(head), rest


def refusal(status: HTTPStatus, refused: str, text: str = "") -> Answer:
    """Return an answer that says no, to people too; *refused* is for the log."""
    body = f"{text or _REASONS.get(status, status.phrase)}\n".encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: text/plain; charset=utf-8\r\nContent-Length: {len(body)}\r\n"
        f"{_EXTRA.get(status, '')}Connection: close\r\n\r\n"
    )
    return Answer(head.encode() + body, f"{status.value} {status.phrase}: {refused}")


def _shown(text: str) -> str:
    """Quote what the other side sent, and no more of it than says enough."""
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")

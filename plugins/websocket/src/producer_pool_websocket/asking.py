"""The client's side of the opening handshake: what it asks for, and what the answer means."""
# Rule: bytes in, bytes out; no socket and no clock. No error holds what was sent or received: there are
# credentials in the one, and the other may repeat them.

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final
from urllib.parse import quote, urlsplit

from websockets.client import ClientProtocol
from websockets.exceptions import InvalidHandshake, NegotiationError
from websockets.extensions import ClientExtensionFactory
from websockets.typing import Origin, Subprotocol
from websockets.uri import WebSocketURI

from producer_pool.plugin import ConnectError, Endpoint, InvalidEndpoint, InvalidOption
from producer_pool_websocket.compression import Inflater, client_extensions
from producer_pool_websocket.credentials import authorization, read_headers, read_token
from producer_pool_websocket.http_head import END, MOST, PATH_SAFE, QUIET, check_words
from producer_pool_websocket.options import ClientOptions, Compression, SecureClientOptions

__all__ = ["Asking", "Wish", "raw_path", "wish_of"]

_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?: |\r)")

_TLS: Final = (0x15, 0x16)
"""The first byte of an alert, or of a handshake: RFC 8446, 5.1."""
_QUERY: Final = re.compile(r"[!\"$-~]*")
"""What is visible, but for the #: a fragment is never sent (RFC 6455, 3)."""
_HINTS: Final = {
    400: "it does not understand what we ask for",
    401: "it asks who we are; give it token-file=, or user:password@ in the URL",
    403: "it does not let us in; does it want token-file=, or an origin= that it knows?",
    404: "there is nothing at this path",
    407: "a proxy asks who we are",
    426: "it does not speak this version of websocket",
    429: "it has too much to do",
    503: "it has too much to do, or is not ready",
}


@dataclass(frozen=True)
class Wish:
    """What a client asks for in each of its handshakes."""

    host: str
    port: int
    secure: bool
    resource: str = field(repr=False)
    """Path and query, as they are sent. The query may hold secrets."""
    origin: str | None = None
    subprotocols: Sequence[str] = ()
    compresses: bool = False
    headers: Sequence[tuple[str, str]] = field(default=(), repr=False)
    """Further ones, with the credentials."""


class Asking:
    """One handshake: send `request`, then feed() it the answer."""

    def __init__(self, wish: Wish, address: str) -> None:
        self._address = address
        self._wish = wish
        path, _, query = wish.resource.partition("?")
        extensions: Sequence[ClientExtensionFactory] | None = client_extensions() if wish.compresses else None
        self._protocol = ClientProtocol(
            WebSocketURI(wish.secure, wish.host, wish.port, path, query, None, None),
            origin=None if wish.origin is None else Origin(wish.origin),
            extensions=extensions,
            subprotocols=[Subprotocol(name) for name in wish.subprotocols] or None,
            logger=QUIET,
        )
        request = self._protocol.connect()
        for name, value in wish.headers:
            request.headers[name] = value
        self._protocol.send_request(request)
        self.request: Final = b"".join(self._protocol.data_to_send())
        self._answer = bytearray()

    def feed(self, data: bytes) -> bytes | None:
        """
        Take a part of the answer; return what came beyond it once it is whole, and None until then.

        Raises:
            ConnectError: the answer is no, or none; the text says what to do.
        """
        if not data:
            what = "in the middle of its answer" if self._answer else "without an answer"
            raise self._refused(f"it closed the connection {what}; does it speak websocket?")
        self._answer += data
        end = self._answer.find(END)
        status = _STATUS_LINE.match(self._answer)
        if status is None and (end >= 0 or len(self._answer) > 16 or self._answer[:1] != b"H"):
            hint = "is wss:// meant?" if self._answer[0] in _TLS else "does it speak websocket?"
            raise self._refused(f"what it answers is not HTTP; {hint}")
        if end < 0:
            if len(self._answer) > MOST:
                raise self._refused(f"the head of its answer has more than {MOST} bytes")
            return None
        assert status is not None
        if int(status[1]) != 101:
            raise self._refused(self._why(int(status[1])))
        self._agree(bytes(self._answer[: end + len(END)]))
        return bytes(self._answer[end + len(END) :])

    @property
    def inflater(self) -> Inflater | None:
        """What decompresses the consumer's messages; None: compression was not agreed on."""
        return Inflater(self._protocol.extensions) if self._protocol.extensions else None

    def _agree(self, head: bytes) -> None:
        self._protocol.receive_data(head)
        error = self._protocol.handshake_exc
        if isinstance(error, NegotiationError):
            raise self._refused("it agreed to something that was not asked for") from None
        if isinstance(error, InvalidHandshake):
            raise self._refused("its answer breaks the rules (RFC 6455, 4.1)") from None
        if self._wish.subprotocols and self._protocol.subprotocol is None:
            asked = ", ".join(self._wish.subprotocols)
            raise self._refused(f"it speaks none of these: {asked} (subprotocol=)")

    def _why(self, status: int) -> str:
        try:
            phrase = f" {HTTPStatus(status).phrase}"
        except ValueError:
            phrase = ""
        if 300 <= status < 400:
            return f"{status}{phrase}: it leads elsewhere{self._leads_to()}, and redirects are not followed"
        hint = _HINTS.get(status, "does it speak websocket at this path?")
        if status == 404:
            hint += f": {self._wish.resource.partition('?')[0]}"
        return f"{status}{phrase}: {hint}"

    def _leads_to(self) -> str:
        """Return where a redirect leads, if that can be shown: scheme, host and port."""
        location = re.search(rb"\r\n[Ll]ocation:[ \t]*([!-~]{1,200})[ \t]*\r\n", self._answer)
        if location is None:
            return ""
        try:
            there = urlsplit(location[1].decode("ascii"))
            port = there.port
        except ValueError:
            return ""
        if not there.scheme.isalpha() or not re.fullmatch(r"[a-z0-9.-]+", there.hostname or ""):
            return ""
        return f", to {there.scheme}://{there.hostname}{'' if port is None else f':{port}'}"

    def _refused(self, reason: str) -> ConnectError:
        return ConnectError(f"{self._address}: handshake: {reason}")


def wish_of(endpoint: Endpoint, options: ClientOptions, *, where: str) -> Wish:
    """
    Return what a URL asks for.

    Raises:
        InvalidOption: an option, or a file that it names, holds what cannot be sent.
    """
    check_words(options.subprotocol, options.origin or "", where=where)
    if options.query is not None and not _QUERY.fullmatch(options.query):
        raise InvalidOption(f"{where}: query holds what no address can; percent-encode it, and its % as %25")
    token = None if options.token_file is None else read_token(options.token_file, where=where)
    headers = [] if options.headers_file is None else read_headers(options.headers_file, where=where)
    proofs = [True for name, _ in headers if name.lower() == "authorization"]
    proof = authorization(endpoint, token)
    if proof is not None:
        proofs += [True] * ((token is not None) + (endpoint.username is not None))
        headers.append(("Authorization", proof))
    if len(proofs) > 1:
        raise InvalidOption(
            f"{where}: say once who we are: user:password@, token-file= or Authorization in headers-file="
        )
    return Wish(
        host=_ascii(endpoint),
        port=endpoint.consumer_port,
        secure=isinstance(options, SecureClientOptions),
        resource=raw_path(endpoint) + (f"?{options.query}" if options.query else ""),
        origin=options.origin,
        subprotocols=options.subprotocol,
        compresses=options.compression is Compression.DEFLATE,
        headers=headers,
    )


def _ascii(endpoint: Endpoint) -> str:
    """Return the host of a URL as a header can hold it."""
    try:
        host = endpoint.host.partition("%")[0]  # a zone means something on this machine only: RFC 6874, 3
        return host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError:
        raise InvalidEndpoint(f"{endpoint}: the host is no name that can be looked up") from None


def raw_path(endpoint: Endpoint) -> str:
    """Return the path of a URL as it is sent: percent-encoded, and never empty."""
    path = endpoint.raw.partition("?")[0].partition("//")[2].partition("/")[2]
    return "/" + quote(path, safe=PATH_SAFE)

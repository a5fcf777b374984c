"""The one place where a URL is read."""
# Rule: no error raised here, and no text or repr made here, holds a password; nor does one that hangs on it
# as its context. `raw`, `password` and the values of `options` are the exceptions.

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple
from urllib import parse

from producer_pool.model.errors import InvalidEndpoint, InvalidOption
from producer_pool.model.fieldwise import Fieldwise
from producer_pool.model.redaction import OPTION_NAME, is_secret_option, redact

__all__ = ["Endpoint", "is_secret_option", "is_url", "redact"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]*\Z")
_HOST_PORT: Final = re.compile(r"(\[[^\]]*\]|[\w.-]+):[0-9]+(/.*)?\Z")
_ADDRESS: Final = re.compile(r"(?:\[(?P<ipv6>[^\[\]]*)\]|(?P<name>[^\[\]:]*))(?::(?P<port>[0-9]*))?\Z")
_BAD_ESCAPE: Final = r"%(?![0-9A-Fa-f]{2})"
_UNRESERVED: Final = r"[A-Za-z0-9._~-]*"
"""What means itself everywhere in a URL (RFC 3986)."""
_URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:")


def is_url(place: str) -> bool:
    """Whether *place* is meant as a URL, and not as a path: ``./tcp:`` is a path, and so is ``c:``."""
    return _URL.match(place) is not None


class _Parts(NamedTuple):
    """A URL cut into pieces, nothing decoded (RFC 3986, but for the fragment, which there is none of)."""

    scheme: str
    userinfo: str | None
    """What stands before the ``@``."""
    address: str | None
    """Host and port, or several of them; None: there is no ``//``."""
    path: str
    query: str | None

    @classmethod
    def of(cls, url: str) -> _Parts:
        scheme, _, rest = url.partition(":")
        rest, question, query = rest.partition("?")
        userinfo = address = None
        if rest.startswith("//"):
            address, slash, path = rest[2:].partition("/")
            rest = slash + path
            before, at, after = address.rpartition("@")
            if at:
                userinfo, address = before, after
        return cls(scheme, userinfo, address, rest, query if question else None)

    @property
    def url(self) -> str:
        user = "" if self.userinfo is None else f"{self.userinfo}@"
        place = "" if self.address is None else f"//{user}{self.address}"
        return f"{self.scheme}:{place}{self.path}" + ("" if self.query is None else f"?{self.query}")


class _Options(dict[str, str]):
    """Options whose values do not show when somebody prints them all."""

    def __repr__(self) -> str:
        return f"<options {', '.join(self) or 'none'}>"


@dataclass(frozen=True, eq=False, repr=False)
class Endpoint(Fieldwise):
    """
    A parsed URL: where something is, how it is reached, and with which options.

    Scheme and query are read at once; host and port only when asked for, so that a plugin whose URLs
    look different (several hosts, say) can read `raw` itself. ``str()`` and ``repr()`` hide secrets.
    """

    scheme: str
    """In small letters."""
    options: Mapping[str, str] = field(compare=False)
    """The query, decoded, in its order. **It may hold secrets.** A ``+`` is a plus, not a space."""
    raw: str
    """The URL as it was written. **It may hold a password: never print it.**"""
    _parts: _Parts = field(compare=False)
    _hidden: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """
        Read a URL.

        Raises:
            InvalidEndpoint: it is none. The text says what to write instead and hides its secrets.
            InvalidOption: an option is repeated or malformed.
        """
        given: object = url
        if not isinstance(given, str):  # Of what else there may be, nothing is known that may be shown.
            raise InvalidEndpoint(f"a URL is a text such as tcp://host:port, not {type(given).__name__}")
        shown = redact(url).partition("?")[0]  # Which of its options are secret is not known yet.
        for position, character in enumerate(url, 1):
            if character == " " or not character.isprintable():
                raise InvalidEndpoint(
                    f"{shown}: a URL holds no white space or control characters, and character {position} "
                    f"is {character!a}; remove it, or write it as {parse.quote(character, errors='replace')}"
                )
        scheme, colon, rest = url.partition(":")
        is_host_port = _HOST_PORT.match(url) is not None and not rest.startswith("//")
        if is_host_port or not colon or not _SCHEME.match(scheme):
            hint = f"did you mean tcp://{shown}?" if is_host_port else "write it as scheme://host:port"
            raise InvalidEndpoint(f"{shown} has no scheme; {hint}")
        if "#" in url:
            raise InvalidEndpoint(f"{shown}: a URL here has no fragment; write '#' as %23")
        parts = _Parts.of(url)
        _check_at(parts, shown)
        for what, text in (("user or password", parts.userinfo), ("path", parts.path)):
            _decoded(text or "", what, shown)
        options = _Options(_options(parts.query, shown))
        return cls(scheme.lower(), options, url, parts)

    def __str__(self) -> str:
        return redact(self.raw, self._hidden)

    def __repr__(self) -> str:
        return f"<Endpoint {self}>"

    # -- its parts ---------------------------------------------------------------------------------

    @property
    def host(self) -> str:
        """
        The host, decoded, in small letters, without the brackets of IPv6.

        Raises:
            InvalidEndpoint: there is none, or several, or it is no name that a host can have.
        """
        address = self._address()
        ipv6 = address["ipv6"]
        if ipv6 is not None:
            host, percent, zone = ipv6.partition("%")
            # RFC 6874 writes the % before a zone as %25, and people write it as it is.
            return host.lower() + percent + _decoded(zone.removeprefix("25"), "zone", str(self))
        host = _decoded(address["name"], "host", str(self)).lower()
        if not host:
            raise InvalidEndpoint(f"{self} names no host; write it as {self.scheme}://host:port")
        if " " in host or not host.isprintable():
            raise InvalidEndpoint(f"{self}: no host has white space or control characters in its name")
        return host

    @property
    def port(self) -> int:
        """
        The port, from 0 to 65535.

        Raises:
            InvalidEndpoint: there is none, or it is no such number.
        """
        digits = self._address()["port"]
        if not digits:
            raise InvalidEndpoint(f"{self} names no port; write it as {self.scheme}://host:port")
        if len(digits) > 5 or int(digits) > 65535:
            raise InvalidEndpoint(f"{self}: the port is not a number from 0 to 65535")
        return int(digits)

    @property
    def consumer_port(self) -> int:
        """
        The port of somebody to connect or to send to, from 1 to 65535.

        Raises:
            InvalidEndpoint: there is none, or it is no such number. A listener may have port 0: any free one.
        """
        port = self.port
        if not port:
            raise InvalidEndpoint(f"{self}: nobody is at port 0; name the port at which the consumer listens")
        return port

    def _address(self) -> re.Match[str]:
        """Return the match of the one host, and perhaps port, that there is."""
        text = self._parts.address
        if not text:
            raise InvalidEndpoint(f"{self} names no host; write it as {self.scheme}://host:port")
        if "," in text:
            raise InvalidEndpoint(f"{self} names several hosts; {self.scheme} takes one, as host:port")
        match = _ADDRESS.match(text)
        if match is None:
            reason = "the port is not a number from 0 to 65535; write it as host:port"
            if text.count(":") > 1 or "[" in text or "]" in text:
                reason = "write an IPv6 address in brackets, as [::1]:9000"
            raise InvalidEndpoint(f"{self}: {reason}")
        if match["ipv6"] is not None and not _is_ipv6(match["ipv6"].partition("%")[0]):
            raise InvalidEndpoint(f"{self}: what stands in brackets is no IPv6 address, such as [::1]")
        return match

    @property
    def username(self) -> str | None:
        """The user before the ``@``, decoded; None: there is no ``@``."""
        userinfo = self._parts.userinfo
        return None if userinfo is None else _unquoted(userinfo.partition(":")[0])

    @property
    def password(self) -> str | None:
        """The password before the ``@``, decoded; None: there is none. **Never print it.**"""
        _, colon, password = (self._parts.userinfo or "").partition(":")
        return _unquoted(password) if colon else None

    @property
    def path(self) -> str:
        """What stands after the host, or after the scheme where there is no host, decoded."""
        return _unquoted(self._parts.path)

    def no_more_than_host_and_port(self) -> None:
        """
        Check that nothing stands in this URL besides host, port and options.

        Raises:
            InvalidEndpoint: it has a user, or a path.
        """
        if self._parts.userinfo is not None:
            raise InvalidEndpoint(
                f"{self}: {self.scheme} has no users and passwords; leave out '@' and what stands before it"
            )
        if self._parts.address is None:
            raise InvalidEndpoint(
                f"{self} names no host, for want of '//'; write it as {self.scheme}://host:port"
            )
        if self._parts.path not in ("", "/"):
            raise InvalidEndpoint(f"{self}: {self.scheme} has no path; write it as {self.scheme}://host:port")

    def no_more_than_path(self) -> None:
        """
        Check that nothing stands in this URL besides a path, or a name without a host, and options.

        Raises:
            InvalidEndpoint: it has a user, or a host. ``scheme://run/x`` has one, for want of a slash.
        """
        if self._parts.userinfo is not None:
            raise InvalidEndpoint(
                f"{self}: {self.scheme} has no users and passwords; leave out '@' and what stands before it"
            )
        if self._parts.address:
            place = f"{self._parts.address}{self._parts.path}"
            raise InvalidEndpoint(f"{self}: {self.scheme} has no host; write it as {self.scheme}:///{place}")

    # -- others like it ----------------------------------------------------------------------------

    def at(self, host: str, port: int) -> Endpoint:
        """
        Return this endpoint at another address, such as that of a listener which asked for port 0.

        Raises:
            InvalidEndpoint: it has no host.
        """
        self._address()
        name = f"[{host.replace('%', '%25')}]" if ":" in host else _quoted(host)
        parts = self._parts._replace(address=f"{name}:{port}")
        return replace(self, _parts=parts, raw=parts.url)

    def without(self, names: Iterable[str]) -> Endpoint:
        """Return this endpoint without some of its options, for whom they do not concern."""
        gone = frozenset(names)
        if gone.isdisjoint(self.options):
            return self
        pairs = (self._parts.query or "").split("&")
        left = "&".join([pair for pair in pairs if _unquoted(pair.partition("=")[0]) not in gone])
        kept = {name: value for name, value in self.options.items() if name not in gone}
        parts = self._parts._replace(query=left or None)
        return replace(self, _parts=parts, raw=parts.url, options=_Options(kept))

    # -- hiding secrets ----------------------------------------------------------------------------

    def hiding(self, names: Iterable[str]) -> Endpoint:
        """Return this endpoint, which hides these options too: those that a transport declares as secret."""
        return replace(self, _hidden=self._hidden.union(names))

    def scrub(self, text: str) -> str:
        """Return *text*, from whatever source, with the secrets of this endpoint hidden in it."""
        text = text.replace(self.raw, str(self))
        for secret in sorted(self._secrets(), key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def _secrets(self) -> set[str]:
        """Return all spellings of all secrets: as written, decoded, encoded again, and as Python has them."""
        userinfo = self._parts.userinfo or ""
        found = [userinfo, userinfo.partition(":")[2] or userinfo]
        for pair in (self._parts.query or "").split("&"):
            name, _, value = pair.partition("=")
            if is_secret_option(_unquoted(name)) or _unquoted(name) in self._hidden:
                found.append(value)
        found += [_unquoted(secret) for secret in found]
        found += [spelt for secret in found for spelt in (parse.quote(secret), _quoted(secret))]
        found += [repr(secret)[1:-1] for secret in found]
        return {secret for secret in found if secret}


def _check_at(parts: _Parts, shown: str) -> None:
    """
    Refuse an ``@`` that does not end the userinfo: it may be part of a password, or the end of one.

    Only in a path after three slashes, and at the start of a name without a host, it is one like others.
    """
    if parts.userinfo == "":
        raise InvalidEndpoint(
            f"{shown}: no user stands before '@'; leave the '@' out, "
            f"or write {parts.scheme}:@name for a name without a host"
        )
    text = f"{parts.userinfo or ''}{parts.query or ''}"
    if parts.address or parts.userinfo or (parts.address is None and not parts.path.startswith("@")):
        text += parts.path
    if "@" in text:
        raise InvalidEndpoint(
            f"{shown}: only the '@' between user and host stands for itself; write any other as %40, "
            f"and in a password also '/' as %2F and '?' as %3F: {parts.scheme}://user:password@host:port"
        )


def _options(query: str | None, shown: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a query, decoded."""
    seen = set()
    for number, pair in enumerate(query.split("&") if query else (), 1):
        name, equals, value = pair.partition("=")
        name = _decoded(name, f"name of option {number}", shown)
        if not equals or not OPTION_NAME.match(name):
            raise InvalidOption(f"{shown}: option {number} is not written as name=value")
        if name in seen:
            raise InvalidOption(f"{shown}: the option {name} stands there twice; leave one out")
        seen.add(name)
        yield name, _decoded(value, f"option {name}", shown)


def _decoded(text: str, what: str, shown: str) -> str:
    """
    Return *text* without its percent-encoding.

    Raises:
        InvalidEndpoint: it is not encoded properly. A guess would change a password.
    """
    if "%" not in text:
        return text
    if re.search(_BAD_ESCAPE, text):
        raise InvalidEndpoint(
            f"{shown}: {what}: '%' is not followed by two hexadecimal digits; write it as %25"
        )
    try:
        return parse.unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        pass
    # Not in the handler: the error there holds the text, and would hang on this one as its context.
    raise InvalidEndpoint(f"{shown}: {what}: what is percent-encoded is not UTF-8; write ü as %C3%BC")


def _unquoted(text: str) -> str:
    return parse.unquote_to_bytes(text).decode(errors="replace") if "%" in text else text


def _quoted(text: str) -> str:
    return text if re.fullmatch(_UNRESERVED, text) else parse.quote(text, safe="")


def _is_ipv6(text: str) -> bool:
    from ipaddress import AddressValueError, IPv6Address

    try:
        IPv6Address(text)
    except AddressValueError:
        return False
    return True

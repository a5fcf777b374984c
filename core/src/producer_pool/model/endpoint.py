"""The one place where a URL is read, and where its secrets are hidden."""
# Rule: no error raised here, and no text or repr made here, holds a password. `raw` is the exception.

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Final
from urllib.parse import SplitResult, quote, unquote, urlsplit

from producer_pool.model.errors import InvalidEndpoint, InvalidOption

__all__ = ["Endpoint", "is_secret_option", "redact"]

_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+-]*\Z")
_HOST_PORT: Final = re.compile(r"[\w.-]+:\d+(/.*)?\Z")
_SECRET_WORDS: Final = ("password", "passwd", "secret", "token", "api-key", "apikey", "credential")


def is_secret_option(name: str) -> bool:
    """Whether an option of this name is hidden: it speaks of a secret and does not name a file."""
    return any(word in name for word in _SECRET_WORDS) and not name.endswith("-file")


def redact(text: str, hidden: Iterable[str] = ()) -> str:
    """
    Return a URL with its userinfo and the values of secret options hidden, however malformed it is.

    *hidden* names options that are secret besides those that is_secret_option() knows. What cannot be
    told apart from a secret is hidden too.
    """
    scheme, colon, rest = text.partition("://")
    if not colon:
        scheme, colon, rest = text.partition(":")
    before, question, query = rest.partition("?")
    if "@" in before and (colon == "://" or before[0] not in "@/"):
        before = "***@" + before.rpartition("@")[2]
    else:
        host, after_host, port = before.partition("/")[0].rpartition(":")
        if after_host and not port.isdigit() and (not host.startswith("[") or host.endswith("]")):
            before = host + ":***"
        if "@" in query and before[:1] not in ("@", "/"):
            # Perhaps a password with a '?' in it.
            return scheme + colon + before.partition(":")[0] + ":***"
    if not question:
        return scheme + colon + before
    shown = []
    for pair in query.split("&"):
        name, equals, value = pair.partition("=")
        word = unquote(name).lower()
        if equals and (is_secret_option(word) or word in hidden):
            value = "***"
        shown.append(name + equals + value)
    return scheme + colon + before + question + "&".join(shown)


@dataclass(frozen=True, repr=False)
class Endpoint:
    """
    A parsed URL: where something is, how it is reached, and with which options.

    Scheme and query are read at once; host and port only when asked for, so that a plugin whose URLs
    look different (several hosts, say) can read `raw` itself. ``str()`` and ``repr()`` hide secrets.
    """

    scheme: str
    options: Mapping[str, str] = field(compare=False)
    """The query, decoded, in its order."""
    _split: SplitResult = field(compare=False)
    raw: str
    """The URL as it was written. **It may hold a password: never print it.**"""
    _hidden: frozenset[str] = field(default=frozenset(), compare=False)

    @classmethod
    def parse(cls, url: str) -> Endpoint:
        """
        Read a URL.

        Raises:
            InvalidEndpoint: it is none. The text says what to write instead and hides its secrets.
            InvalidOption: an option is repeated or malformed.
        """
        shown = redact(url)
        if any(ord(character) <= 32 or ord(character) == 127 for character in url):
            # urlsplit() would remove some of them without a word.
            raise InvalidEndpoint(
                f"{_printable(shown)}: a URL holds no white space or control characters; percent-encode them"
            )
        scheme, colon, rest = url.partition(":")
        if not colon or not _SCHEME.match(scheme) or (_HOST_PORT.match(url) and not rest.startswith("//")):
            hint = (
                f"; did you mean tcp://{shown}?"
                if _HOST_PORT.match(url)
                else "; write it as scheme://host:port"
            )
            raise InvalidEndpoint(f"{shown!r} has no scheme{hint}")
        if "#" in url:
            before, _, after = url.partition("#")
            shown = shown if "@" in after else redact(before) + "..."
            raise InvalidEndpoint(f"{shown}: a URL here has no fragment; write '#' as %23")
        try:
            split = urlsplit(url)
        except ValueError:
            # Its text holds the whole of what stands before the host, and so the password.
            raise InvalidEndpoint(
                f"{shown} cannot be read; percent-encode special characters, and write IPv6 as [::1]"
            ) from None
        if "@" in split.path and split.netloc and "@" not in split.netloc:
            raise InvalidEndpoint(f"{shown}: a user or password may not hold '/'; write it as %2F")
        return cls(scheme.lower(), dict(_query(split.query, shown)), split, url)

    def __str__(self) -> str:
        return redact(self.raw, self._hidden)

    def __repr__(self) -> str:
        return f"<Endpoint {self}>"

    @property
    def host(self) -> str:
        """
        The host, decoded, without the brackets of IPv6.

        Raises:
            InvalidEndpoint: there is none.
        """
        host = self._split.hostname
        if not host:
            raise InvalidEndpoint(f"{self} names no host; write it as {self.scheme}://host:port")
        return unquote(host)

    @property
    def port(self) -> int:
        """
        The port, from 0 to 65535.

        Raises:
            InvalidEndpoint: there is none, or it is no such number.
        """
        try:
            port = self._split.port
        except ValueError:
            raise InvalidEndpoint(f"{self}: the port is not a number from 0 to 65535") from None
        if port is None:
            raise InvalidEndpoint(f"{self} names no port; write it as {self.scheme}://host:port")
        return port

    @property
    def username(self) -> str | None:
        """The user before the ``@``, decoded."""
        return None if self._split.username is None else unquote(self._split.username)

    @property
    def password(self) -> str | None:
        """The password before the ``@``, decoded. **Never print it.**"""
        return None if self._split.password is None else unquote(self._split.password)

    @property
    def path(self) -> str:
        """What stands after the host, or after the scheme where there is no host, decoded."""
        return unquote(self._split.path)

    def hiding(self, names: Iterable[str]) -> Endpoint:
        """Return this endpoint, which hides these options too: those that a transport declares as secret."""
        return replace(self, _hidden=self._hidden.union(names))

    def scrub(self, text: str) -> str:
        """Return *text*, from whatever source, with the secrets of this endpoint hidden in it."""
        userinfo = self._split.netloc.rpartition("@")[0]
        secrets = {userinfo, userinfo.partition(":")[2] or userinfo, self.password or self.username or ""}
        for name, value in self.options.items():
            if is_secret_option(name.lower()) or name in self._hidden:
                secrets |= {value, quote(value), quote(value, safe="")}
        text = text.replace(self.raw, str(self))
        for secret in sorted(secrets - {""}, key=len, reverse=True):
            text = text.replace(secret, "***")
        return text

    def no_more_than_host_and_port(self) -> None:
        """
        Check that nothing stands in this URL besides host, port and options.

        Raises:
            InvalidEndpoint: it has a user, or a path.
        """
        if self._split.username is not None or self._split.password is not None:
            raise InvalidEndpoint(
                f"{self}: {self.scheme} has no users and passwords; leave out what stands before '@'"
            )
        if self._split.path not in ("", "/"):
            raise InvalidEndpoint(f"{self}: {self.scheme} has no path; leave out what stands after the port")

    def at(self, host: str, port: int) -> Endpoint:
        """Return this endpoint at another address, such as that of a listener which asked for port 0."""
        shown = f"[{quote(host)}]" if ":" in host else host
        split = self._split._replace(netloc=f"{shown}:{port}")
        return replace(self, _split=split, raw=split.geturl())

    def without(self, names: Iterable[str]) -> Endpoint:
        """Return this endpoint without some of its options, for whom they do not concern."""
        gone = frozenset(names)
        kept = {name: value for name, value in self.options.items() if name not in gone}
        if len(kept) == len(self.options):
            return self
        query = "&".join(f"{quote(name)}={quote(value, safe='/:,@')}" for name, value in kept.items())
        split = self._split._replace(query=query)
        base = self.raw.partition("?")[0]
        return replace(self, options=kept, _split=split, raw=f"{base}?{query}" if query else base)


def _query(text: str, shown: str) -> Iterator[tuple[str, str]]:
    """Yield the options of a query, decoded."""
    seen = set()
    for pair in text.split("&") if text else ():
        name, equals, value = pair.partition("=")
        name = unquote(name)
        if not name or not equals:
            raise InvalidOption(f"{shown}: an option is written as name=value")
        if name in seen:
            raise InvalidOption(f"{shown}: the option {name} stands there twice; leave one out")
        seen.add(name)
        yield name, unquote(value)


def _printable(text: str) -> str:
    return text.encode("unicode_escape").decode("ascii")

"""What of a URL may be shown: here its secrets are hidden, in whatever state it is."""
# Rule: show what is known to be harmless and hide the rest. Of a malformed URL, little is known.

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Final
from urllib import parse

__all__ = ["OPTION_NAME", "is_secret_option", "redact"]

_SECRET_WORDS: Final = (
    "pass", "pasw", "pw", "secret", "token", "cred", "auth", "cookie", "signature",
    "api-key", "apikey", "access-key", "private-key",
)  # fmt: skip
_SECRET_NAMES: Final = ("key", "sig")

# Patterns are compiled at their first use, which for most of them never comes.
_SCHEME: Final = r"(?P<scheme>[A-Za-z][A-Za-z0-9+-]*)"
_HOST: Final = r"(?:\[[0-9A-Fa-f:.]*(?:%[\w.~-]*)?\]|[\w.~%-]*)"
_ADDRESS: Final = rf"{_HOST}(?::[0-9]*)?"
_HOSTS: Final = rf"{_ADDRESS}(?:,{_ADDRESS})*"
_QUERY: Final = r"(?:\?(?P<query>[^@#]*))?\Z"

# Paths that can be neither `user:/password@host` nor `scheme:/user:password@host`.
_PATH: Final = r"/[^?#@:/]*(?:/[^?#@]*)?"
_FILE: Final = r"/(?:[^?#:]*|[^?#@:/]+(?:/[^?#@]*)?)"

_WITH_HOST: Final = rf"{_SCHEME}://(?P<user>[^/?#@]*@)?(?P<place>(?!/){_HOSTS}(?:/[^?#@]*)?){_QUERY}"
_WITHOUT_HOST: Final = rf"{_SCHEME}:(?P<place>//{_FILE}|(?!//){_PATH}|(?!/)@?[^?#@:]*){_QUERY}"

_WITHOUT_SCHEME: Final = rf"{_HOST}:[0-9]+(?:/[^?#@:]*)?\Z"
_AFTER_LAST_AT: Final = rf"(?P<scheme>[A-Za-z][A-Za-z0-9+-]*://)?[^?#]*@(?P<place>{_HOSTS})\Z"
_START: Final = rf"{_SCHEME}://"

OPTION_NAME: Final = re.compile(r"[A-Za-z][\w.-]*\Z")


def is_secret_option(name: str) -> bool:
    """Whether an option of this name is hidden: it speaks of a secret and does not name a file."""
    name = name.lower().replace("_", "-")
    speaks = name in _SECRET_NAMES or any(word in name for word in _SECRET_WORDS)
    return speaks and not name.endswith("-file")


def redact(text: str, hidden: Collection[str] = ()) -> str:
    """
    Return a URL with its userinfo and the values of secret options hidden, however malformed it is.

    *hidden* names options that are secret besides those that is_secret_option() knows. What cannot be
    told apart from a secret is hidden too; and what is returned can be printed.
    """
    return _redact(text, hidden, outermost=True)


def _redact(text: str, hidden: Collection[str], *, outermost: bool) -> str:
    if not text.isprintable():
        match = re.match(_START, text)
        return f"{match[0] if match else ''}***"
    if match := re.match(_WITH_HOST, text):
        start = f"{match['scheme']}://{'***@' if match['user'] else ''}"
    elif match := re.match(_WITHOUT_HOST, text):
        start = f"{match['scheme']}:"
    else:
        return _redact_malformed(text)
    query = match["query"]
    if query is None:
        return start + match["place"]
    options = "&".join([_redact_option(pair, hidden, outermost) for pair in query.split("&")])
    return f"{start}{match['place']}?{options}"


def _redact_malformed(text: str) -> str:
    """Return what is harmless wherever in *text* a password may stand."""
    if re.match(_WITHOUT_SCHEME, text):
        return text
    if match := re.match(_AFTER_LAST_AT, text):
        return f"{match['scheme'] or ''}***@{match['place']}"
    match = re.match(_START, text)
    return f"{match[0] if match else ''}***"


def _redact_option(pair: str, hidden: Collection[str], outermost: bool) -> str:
    name, equals, value = pair.partition("=")
    if pair and not (equals and OPTION_NAME.match(name)):
        return "***"  # Perhaps the rest of a secret that holds a '&', or a name that hides what it is.
    if value and (is_secret_option(name) or name in hidden or _is_secret_url(value, outermost)):
        value = "***"
    return name + equals + value


def _is_secret_url(value: str, outermost: bool) -> bool:
    """
    Whether the value of an option is a URL itself, such as that of dead-letters=, and has secrets.

    Of a URL inside of that, it is not asked: it would be one inside of the next, and so on.
    """
    inner = parse.unquote(value)
    if re.match(_START, inner) is None:
        return False
    return not outermost or _redact(inner, (), outermost=False) != inner

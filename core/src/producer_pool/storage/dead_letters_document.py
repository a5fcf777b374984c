"""A dead letter as a JSON object, as consumers of dead letters and programs get it."""
# What stands here is documented in docs/reference/dead-letters.md, and only grows within a version.

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from typing import Any, Final

from producer_pool.storage.dead_letters_values import Letter

__all__ = ["VERSION", "described", "document", "encoded", "iso_time", "written"]

VERSION: Final = 1


def iso_time(seconds: float) -> str:
    """Return a time in seconds since 1970 as ISO 8601, in UTC, such as ``2026-11-25T17:30:00.123Z``."""
    try:
        time = datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError, OSError):  # A damaged one.
        return "0001-01-01T00:00:00.000Z"
    return time.replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z"


def described(letter: Letter) -> dict[str, Any]:
    """Return what is known of a letter's messages, without them."""
    return {
        "dead_letter": VERSION,
        "producer": letter.producer_id,
        "role": letter.role,
        "outcome": letter.outcome.value,
        "reason": letter.reason,
        "error": letter.error,
        "attempts": letter.attempts,
        "accepted": iso_time(letter.accepted),
        "given_up": iso_time(letter.given_up),
        "origin": letter.origin or None,
    }


def document(letter: Letter, message: bytes) -> dict[str, Any]:
    """Return one message and what became of it."""
    return {**described(letter), **written(message)}


def written(message: bytes) -> dict[str, str]:
    """Return a message as it is written in JSON: a text where it is UTF-8, else base64, and which of both."""
    try:
        return {"encoding": "utf-8", "message": message.decode()}
    except UnicodeDecodeError:
        return {"encoding": "base64", "message": base64.b64encode(message).decode()}


def encoded(letter: Letter, message: bytes) -> bytes:
    """Return document() as one line of ASCII, without its end: fit for every framing."""
    return json.dumps(document(letter, message)).encode()

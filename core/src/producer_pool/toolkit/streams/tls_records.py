"""What a stream knows of TLS before it needs any: how its records count, and what it raises."""
# Rule: no ssl. It takes 4.5 MB, and a daemon whose URLs ask for no TLS does not load it.

from __future__ import annotations

from typing import Final

__all__ = ["RECORD", "TlsError", "whole_plaintext"]

RECORD: Final = 16384
"""Plaintext bytes of a full record: RFC 8446, 5.1. OpenSSL fills each but the last of a write."""


class TlsError(OSError):
    """The other side broke a rule, or says that we did. The text says which; *it* is the other side."""


def whole_plaintext(reached: int, size: int, plain: int) -> int:
    """
    Return how much of a batch of *plain* bytes, encrypted to *size*, the first *reached* bytes hold for sure.

    A record counts only when it is whole: nothing of it can be decrypted before (RFC 8446, 5.2).
    """
    if reached >= size:
        return plain
    records = -(-plain // RECORD)
    overhead, odd = divmod(size - plain, records)
    # With ciphers that pad, records differ in their overhead: then only the whole batch counts.
    return 0 if odd else min(plain, reached // (RECORD + overhead) * RECORD)

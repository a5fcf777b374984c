"""What OpenSSL says, in the words of the house."""

import ssl

from producer_pool.toolkit.streams.tls_faults import why_tls


def test_reason_that_nobody_has_put_in_words() -> None:
    """It is shown as OpenSSL names it."""

    class New(ssl.SSLError):
        reason = "SOME_NEW_REASON"

    assert why_tls(New(1, "[SSL: SOME_NEW_REASON] some new reason")) == "some new reason"
    assert why_tls(ssl.SSLError(1, "odd")) == "odd"

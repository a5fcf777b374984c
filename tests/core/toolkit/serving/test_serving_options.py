"""The options of clients that consumers connect to."""

from __future__ import annotations

import pytest

from producer_pool.contract.options import coerce
from producer_pool.model.errors import InvalidOption
from producer_pool.toolkit.serving.options import PeerOverflow, ServingOptions


def test_words_of_a_url() -> None:
    """They have units and names as everywhere."""
    query = {
        "peer-buffer": "64KiB",
        "peer-overflow": "drop-oldest",
        "peer-timeout": "500ms",
        "min-peers": "0",
    }

    options = coerce(ServingOptions, query, where="x")

    assert options.peer_buffer == 65536
    assert options.peer_overflow is PeerOverflow.DROP_OLDEST
    assert options.peer_timeout == 0.5
    assert options.min_peers == 0


@pytest.mark.parametrize(
    "options,wrong",
    [
        (ServingOptions(max_message=0), "max-message must be at least 1 byte"),
        (ServingOptions(peer_buffer=0), "peer-buffer must be at least 1 byte"),
        (ServingOptions(max_peers=0), "max-peers must be at least 1"),
        (ServingOptions(min_peers=-1), "min-peers must be from 0 to max-peers, which is 1000"),
        (ServingOptions(min_peers=3, max_peers=2), "min-peers must be from 0 to max-peers, which is 2"),
        (ServingOptions(peer_timeout=0.0), "peer-timeout must be above 0 seconds"),
    ],
)
def test_numbers_that_make_no_sense(options: ServingOptions, wrong: str) -> None:
    """Each is an error that names the option, and what it belongs to."""
    with pytest.raises(InvalidOption, match=f"here: {wrong}"):
        options.check("here")


def test_numbers_at_the_edge() -> None:
    """The least that can be used is fine."""
    ServingOptions(max_message=1, peer_buffer=1, max_peers=1, min_peers=1, peer_timeout=0.001).check("here")

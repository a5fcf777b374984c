"""What a plugin offers."""

from typing import Any

import pytest

from producer_pool.contract.transport import API, Transport
from producer_pool.model.outcomes import Ack


def test_defaults() -> None:
    """Schemes are enough; what is not said is what is most common."""
    transport = Transport(schemes=["fifo"], client=None)

    assert transport.schemes == ("fifo",)
    assert transport.acks == frozenset({Ack.WRITTEN})
    assert (transport.ordered, transport.binary_safe, transport.max_message) == (True, True, None)
    assert (transport.listener, transport.options, transport.listener_options) == (None, None, None)
    assert (transport.loopback, transport.api) == ("", API) == ("", 1)


def test_levels_in_any_collection() -> None:
    """What was passed is kept as a value that nobody can change."""
    acks = [Ack.KERNEL, Ack.WRITTEN]
    transport = Transport(schemes=("tcp",), client=None, acks=acks)
    acks.clear()

    assert transport.acks == frozenset({Ack.KERNEL, Ack.WRITTEN})


def test_single_scheme_instead_of_several() -> None:
    """A word is not taken for as many schemes as it has letters."""
    with pytest.raises(TypeError, match=r"write schemes=\('fifo',\)"):
        Transport(schemes="fifo", client=None)


@pytest.mark.parametrize("acks", ["kernel", ["kernel"], (Ack.WRITTEN, 2), Ack.KERNEL, None, ([],)])
def test_what_is_no_level(acks: Any) -> None:
    """It is named, and the way to write levels, where the plugin makes its transport."""
    with pytest.raises(TypeError) as caught:
        Transport(schemes=["fifo"], client=None, acks=acks)

    assert str(caught.value) == f"acks are levels such as (Ack.WRITTEN, Ack.KERNEL), not {acks!r}"

"""Dead letters for programs."""

from dataclasses import replace
from pathlib import Path

import pytest

from producer_pool import DeadLetter, DeliveryPolicy, ProducerPool, StorageError, open_dead_letters
from producer_pool.storage.dead_letters import FILE, LetterFile
from support.letters import letter, messages_in


def test_take_out(tmp_path: Path) -> None:
    """Letters come with their messages, in order, and are gone when they are removed."""
    with LetterFile(tmp_path) as file:
        file.add([letter(b"1", b"2"), letter(b"3", producer_id="billing")])
    with open_dead_letters(tmp_path) as letters:
        for one in letters:
            if one.producer_id == "audit":
                assert one.messages == (b"1", b"2")
                assert (one.count, one.reason, one.attempts, one.number) == (2, "Rejected", 1, 1)
                assert letters.remove(one)
                assert not letters.remove(one)

    assert messages_in(tmp_path) == [b"3"]


def test_while_a_pool_writes(tmp_path: Path) -> None:
    """What is given up meanwhile comes at the end, and nobody waits for the other."""
    policy = replace(DeliveryPolicy.direct(), dead_letters=str(tmp_path))
    with ProducerPool(policy=policy) as pool:
        pool.add_producer("audit", "tcp://127.0.0.1:1")
        pool.forward_to("audit", b"before")
    with open_dead_letters(tmp_path) as letters:
        found = iter(letters)
        first = next(found)
        with ProducerPool(policy=policy) as pool:
            pool.add_producer("audit", "tcp://127.0.0.1:1")
            pool.forward_to("audit", b"meanwhile")
        seen = [first, *letters]

    assert [one.messages for one in seen] == [(b"before",), (b"before",), (b"meanwhile",)]


def test_damaged(tmp_path: Path) -> None:
    """Of a damaged letter, all is told but its messages."""
    with LetterFile(tmp_path) as file:
        file.add([letter(b"whole")])
    path = tmp_path / FILE
    path.write_bytes(path.read_bytes().replace(b"whole", b"WHOLE"))
    with open_dead_letters(tmp_path) as letters:
        (found,) = letters

    assert isinstance(found, DeadLetter)
    assert found.messages is None
    assert found.producer_id == "audit"


def test_nothing_there(tmp_path: Path) -> None:
    """The error names the folder, and none is made."""
    with pytest.raises(StorageError, match=r"nowhere: no dead letters there.*; name the folder"):
        open_dead_letters(tmp_path / "nowhere")

    assert not (tmp_path / "nowhere").exists()

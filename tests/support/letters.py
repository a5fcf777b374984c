"""Dead letters to test with."""

from pathlib import Path

from producer_pool.model.framing import LENGTH4
from producer_pool.model.outcomes import Outcome
from producer_pool.storage.dead_letters import LetterFile
from producer_pool.storage.dead_letters_values import Choice, Letter

__all__ = ["letter", "lines_in", "messages_in", "stored"]


def letter(
    *messages: bytes,
    producer_id: str = "audit",
    reason: str = "Rejected",
    given_up: float = 1000.0,
    error: str = "no",
) -> tuple[Letter, bytes]:
    """Return a letter with *messages*, as LetterFile.add() takes it."""
    nbytes = sum(map(len, messages))
    made = Letter(
        producer_id,
        "required",
        Outcome.FAILED,
        reason,
        error,
        1,
        "tcp://127.0.0.1:50123",
        len(messages),
        nbytes,
        given_up - 0.5,
        given_up,
        given_up,
    )
    return made, LENGTH4.encode(messages)


def stored(file: LetterFile, choice: Choice | None = None) -> list[list[bytes] | None]:
    """Return the messages of each letter that is meant; None: they are damaged."""
    found = [file.messages(one.number) for one in file.letters(choice)]
    return [one[1] for one in found if one is not None]


def lines_in(folder: Path) -> list[Letter]:
    """Return the letters of *folder*, as far as there are some."""
    with LetterFile(folder, new=False) as file:
        return list(file.letters())


def messages_in(folder: Path) -> list[bytes]:
    """Return all messages in *folder*, none of which is damaged."""
    with LetterFile(folder, new=False) as file:
        return [message for messages in stored(file) for message in messages or [b"DAMAGED"]]

"""Dead letters as JSON: what is documented, no more, and whatever the message is."""

import base64
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from producer_pool.storage.dead_letters_document import document, encoded, iso_time
from support.letters import letter
from support.tree import ROOT


def test_document() -> None:
    """All that is known of a message, with times in UTC."""
    made, _ = letter(b"hello", given_up=1_700_000_000.25)

    assert document(made, b"hello") == {
        "dead_letter": 1,
        "producer": "audit",
        "role": "required",
        "outcome": "failed",
        "reason": "Rejected",
        "error": "no",
        "attempts": 1,
        "accepted": "2023-11-14T22:13:19.750Z",
        "given_up": "2023-11-14T22:13:20.250Z",
        "origin": "tcp://127.0.0.1:50123",
        "encoding": "utf-8",
        "message": "hello",
    }


@given(st.binary(max_size=20))
def test_message_comes_back(message: bytes) -> None:
    """As a text or in base64, as its encoding says; and any framing can carry the line."""
    made, _ = letter(message)
    line = encoded(made, message)
    read = json.loads(line)
    text = read["message"]

    assert (base64.b64decode(text) if read["encoding"] == "base64" else text.encode()) == message
    assert line.isascii()
    assert not set(line) & {0, 10, 13}


def test_reference() -> None:
    """The page has a row for each field, and the object that it shows has just these."""
    page = (ROOT / "docs" / "reference" / "dead-letters.md").read_text()
    (shown,) = re.findall(r"```json\n(.*)\n```", page)
    made, _ = letter(b"x")
    fields = set(document(made, b"x"))

    assert json.loads(shown).keys() == fields
    assert {name for name in fields if not re.search(rf"^\| .*`{name}`.*\| ", page, re.MULTILINE)} == set()


def test_times() -> None:
    """A time that damage left is no time, and no exception."""
    assert iso_time(0.0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(1e300) == iso_time(float("nan")) == "0001-01-01T00:00:00.000Z"

"""Close frames: what they hold, and how they are shown."""

from __future__ import annotations

import pytest
from websockets.frames import EXTERNAL_CLOSE_CODES
from websockets.frames import Close as LibraryClose

from producer_pool_websocket.closing import NO_CODE, TOO_BIG, Close, close_frame, read_close


@pytest.mark.parametrize("code", [1000, 1001, 1009, 3999])
@pytest.mark.parametrize("reason", ["", "grün"])
def test_library_reads_them(code: int, reason: str) -> None:
    """Code and reason are where others look for them."""
    payload = close_frame(code, reason, masked=False)[2:]

    read = LibraryClose.parse(payload)
    assert (read.code, read.reason) == (code, reason)
    assert read_close(payload) == (code, reason)


def test_frame_without_a_code() -> None:
    """What came without a code is answered without one."""
    assert close_frame(NO_CODE, masked=False) == b"\x88\x00"
    assert read_close(b"") == (NO_CODE, "")


def test_long_reason_is_cut_between_characters() -> None:
    """A control frame has 125 bytes, and a reason is UTF-8."""
    frame = close_frame(1000, "ä" * 100, masked=False)

    assert len(frame) == 2 + 2 + 122
    assert read_close(frame[2:]) == (1000, "ä" * 61)


def test_codes_that_may_be_sent() -> None:
    """They are those that the library knows, and those for applications."""
    good = {code for code in range(5100) if read_close(code.to_bytes(2)) is not None}

    assert good == set(EXTERNAL_CLOSE_CODES) | set(range(3000, 5000))


def test_what_is_shown() -> None:
    """The code with its meaning and the way out, and the other side's words in quotes: they end no line."""
    assert str(Close(1001, "")) == "1001 (it is going away)"
    assert "max-message= rejects such messages here" in str(Close(TOO_BIG, ""))
    assert str(Close(4000, "a\nb")) == "4000: 'a\\nb'"

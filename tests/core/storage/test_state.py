"""The small file beside the database: of two slots, the newest that is whole counts."""

import os
from pathlib import Path

from producer_pool.storage.positions import Position
from producer_pool.storage.state import State, StateFile, read_state
from support.spools import flip

SLOT = 128 * 1024


def write(path: Path, *ceilings: int) -> None:
    file = StateFile(path)
    for ceiling in ceilings:
        state = State()
        state.ceiling = ceiling
        state.positions["audit"] = Position(ceiling, [(ceiling + 5, ceiling + 6)])
        state.shown = {"messages": 7}
        file.write(state, durably=True)
    file.close()


def test_newest_counts(tmp_path: Path) -> None:
    """What was written last is read, also by one who goes on writing later."""
    path = tmp_path / "state"
    write(path, 1, 2)
    write(path, 3)

    state = read_state(path)
    assert (state.ceiling, state.shown) == (3, {"messages": 7})
    assert state.positions == {"audit": Position(3, [(8, 9)])}


def test_interrupted_write(tmp_path: Path) -> None:
    """If the newest is damaged, the one before it counts; of that place, the next write makes use."""
    path = tmp_path / "state"
    write(path, 1, 2)
    flip(path, SLOT + 60)

    assert read_state(path).ceiling == 1
    write(path, 5)
    assert read_state(path).ceiling == 5


def test_nothing_of_it(tmp_path: Path) -> None:
    """Without the file, or with another thing of its name, nothing is known."""
    path = tmp_path / "state"
    assert read_state(path).ceiling == 0

    path.write_bytes(os.urandom(1000))
    assert read_state(path).ceiling == 0
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert read_state(path).positions == {}


def test_takes_no_room_after_the_first_time(tmp_path: Path) -> None:
    """It can be written on a disk that became full."""
    path = tmp_path / "state"
    write(path, 1)
    before = path.stat()
    write(path, *range(2, 20))

    after = path.stat()
    assert (after.st_size, after.st_blocks) == (before.st_size, before.st_blocks)


def test_thousands_of_producers(tmp_path: Path) -> None:
    """What does not fit is left out, and numbers still do not come again."""
    state = State()
    state.ceiling = 9
    state.positions = {f"producer-{number}": Position(number) for number in range(10_000)}
    file = StateFile(tmp_path / "state")
    file.write(state, durably=False)
    file.close()

    assert read_state(tmp_path / "state").ceiling == 9

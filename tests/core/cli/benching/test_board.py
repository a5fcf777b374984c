"""Numbers that processes share."""

import subprocess
import sys
from pathlib import Path

from producer_pool.cli.benching.board import Board


def test_numbers_are_apart(tmp_path: Path) -> None:
    """Each number has a place of its own, and a new board has zeros."""
    with Board(tmp_path / "board", producers=3, consumers=2, slots=5) as board:
        assert [list(reached) for reached in board.reached] == [[0, 0]] * 3
        assert [list(due) for due in board.due] == [[0] * 5] * 3

        number = 0
        for view in (*board.reached, *board.due):
            for place in range(len(view)):
                view[place] = number = number + 1

        seen = [value for view in (*board.reached, *board.due) for value in view]
        assert seen == list(range(1, 22))


def test_another_process_sees_them(tmp_path: Path) -> None:
    """What one process writes, another one reads."""
    path = tmp_path / "board"
    there = (
        "from pathlib import Path; from producer_pool.cli.benching.board import Board; import sys\n"
        "with Board(Path(sys.argv[1]), producers=1, consumers=2, slots=4) as board:\n"
        "    board.reached[0][1] = board.due[0][3] + 1\n"
    )
    with Board(path, producers=1, consumers=2, slots=4) as board:
        board.due[0][3] = 41
        subprocess.run([sys.executable, "-c", there, str(path)], check=True)

        assert list(board.reached[0]) == [0, 42]

"""Log lines: one a second for each cause, and none is left out uncounted."""

from producer_pool.model.loglimit import LogLimit, and_more


def test_many_lines_of_one_cause() -> None:
    """The first is written, then one a second, which says how many were left out."""
    limit = LogLimit()
    written = [limit.allow("full", now / 10) for now in range(25)]

    assert [left_out for left_out in written if left_out is not None] == [0, 9, 9]
    assert [index for index, left_out in enumerate(written) if left_out is not None] == [0, 10, 20]


def test_causes_do_not_hide_each_other() -> None:
    """Each cause has its own second."""
    limit = LogLimit()

    assert [limit.allow(cause, 5.0) for cause in ("a", "b", "a", "b")] == [0, 0, None, None]


def test_other_interval() -> None:
    """The interval can be chosen."""
    limit = LogLimit(interval=60)

    assert [limit.allow("a", now) for now in (0, 59, 60)] == [0, None, 1]


def test_more_causes_than_are_kept() -> None:
    """Ever new causes do not fill the memory; a known one is not forgotten for the sake of itself."""
    limit = LogLimit()
    for number in range(1000):
        limit.allow(number, 0.0)
    limit.allow(7, 0.5)

    assert limit.allow(7, 1.0) == 1
    assert limit.allow("new", 1.0) == 0
    assert limit.allow(8, 1.0) == 0


def test_lines_that_speak_of_many() -> None:
    """What is left out is counted in what the lines speak of."""
    limit = LogLimit()

    assert [limit.allow("lost", now, 100) for now in (0.0, 0.1, 0.2, 1.0)] == [0, None, None, 200]


def test_what_was_left_out_at_the_end() -> None:
    """It can be asked for, once."""
    limit = LogLimit()
    for count in (1, 20, 300):
        limit.allow("lost", 0.0, count)
    limit.allow("other", 0.0)

    assert limit.left_out() == [("lost", 320)]
    assert limit.left_out() == []
    assert limit.allow("lost", 0.5) is None


def test_what_was_left_out_is_said() -> None:
    """Behind the line that stands for it, if there is anything."""
    assert f"down{and_more(3)}" == "down (3 such lines left out)"
    assert f"2 messages failed{and_more(5, 'messages')}" == "2 messages failed (5 such messages left out)"
    assert and_more(0) == ""

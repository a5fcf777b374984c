"""What runs the pages of the documentation notices when one is wrong."""

import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from sybil import Sybil

from support.pages import items
from support.rehearsal import Rehearsal
from support.terminals import agrees


@pytest.fixture
def rehearsal(tmp_path: Path) -> Iterator[Rehearsal]:
    """Return what runs a page, in a folder of its own."""
    rehearsal = Rehearsal(tmp_path)
    yield rehearsal
    rehearsal.close()


def run(rehearsal: Rehearsal, text: str) -> None:
    """Run a page with this text."""
    page = rehearsal.folder / "page.md"
    page.write_text(textwrap.dedent(text))
    for example in Sybil([rehearsal.regions]).parse(page).examples():
        example.evaluate()


RIGHT = """
    <!-- file: words.txt -->
    ```text
    one
    ```

    ```python
    from pathlib import Path

    print(Path("words.txt").name, "127.0.0.1:9000")
    ```

    <!-- output -->
    ```text
    words.txt 127.0.0.1:9000
    ```

    ```console
    $ cat words.txt
    one
    $ echo 127.0.0.1:9000 && false
    127.0.0.1:9000
    $ echo $?
    1
    ```

    <!-- stays -->
    ```console
    $ sh -c 'echo begun; exec sleep 60'
    begun
    ```
    """


def test_page_that_is_right(rehearsal: Rehearsal) -> None:
    """Files are written, python and commands are run, and ports are shown as the page has them."""
    run(rehearsal, RIGHT)

    assert len(rehearsal.done) == 5
    assert rehearsal.left_out() == ""


FOLLOWED = """
    <!-- stays -->
    ```console
    $ mkfifo pipe
    $ cat pipe
    ```

    ```console
    $ printf 'one\\ntwo\\n' > pipe
    ```

    <!-- appears: cat pipe -->
    ```text
    one
    ```
    """


def test_what_appears_may_be_followed_by_more(rehearsal: Rehearsal) -> None:
    """Who looks late sees more; and what shows nothing has begun when the next block is run."""
    run(rehearsal, FOLLOWED)

    assert len(rehearsal.done) == 3


STRAY = """
    ```python
    import socket

    listening = socket.create_server(("127.0.0.1", 9000))
    listening.settimeout(5)
    port = listening.getsockname()[1]
    with socket.socket() as stray:
        print(stray.connect_ex((OTHERS, port)) != 0)
    with socket.create_connection(("127.0.0.1", 9000)) as client, listening.accept()[0] as came:
        print(came.getpeername() == client.getsockname())
    print(listening.getsockname()[0])
    listening.close()
    ```

    <!-- output -->
    ```text
    True
    True
    127.0.0.1
    ```
    """


def test_clients_of_others_do_not_stray_in(rehearsal: Rehearsal) -> None:
    """Who tries at a port that was another test's a moment ago is refused, whatever the page has there."""
    # Put together, so that it is not mapped.
    run(rehearsal, STRAY.replace("OTHERS", "'127.0.' + '0.1'"))

    assert rehearsal.left_out() == ""


@pytest.mark.parametrize(
    "wrong",
    [
        RIGHT.replace("words.txt 127", "other.txt 127"),
        RIGHT.replace("    one\n    $", "    two\n    $"),
        RIGHT.replace("    1\n    ```", "    0\n    ```"),
        RIGHT.replace("$ cat words.txt\n    one", "$ cat missing.txt").replace("    $ echo $?\n    1\n", ""),
        RIGHT.replace("echo begun; exec sleep 60", "echo ended"),
        "<!-- ctrl-c: nothing that runs -->",
    ],
    ids=["output", "command", "code", "missing", "stays", "ctrl-c"],
)
def test_page_that_is_wrong(rehearsal: Rehearsal, wrong: str) -> None:
    """What a page says and what happens differ, and that is an error."""
    with pytest.raises(AssertionError):
        run(rehearsal, wrong)


ENVIRONMENT = """
    <!-- environment -->
    ```console
    $ python -m venv .venv
    $ . .venv/bin/activate
    $ python -m pip install "producer-pool[cli]"
    ```

    ```console
    $ python -c "import producer_pool; print(producer_pool.__file__)"
    /.../.venv/lib/.../site-packages/producer_pool/__init__.py
    $ python -m pip list --disable-pip-version-check | grep -c hypothesis
    0
    $ echo $?
    1
    ```
    """


@pytest.mark.timeout(180)
def test_page_with_an_environment(rehearsal: Rehearsal) -> None:
    """From there on, commands are those of an environment that has what the page installed, from wheels."""
    run(rehearsal, ENVIRONMENT)

    assert len(rehearsal.done) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ENVIRONMENT.replace("python -m venv", "virtualenv"),
        ENVIRONMENT.replace(". .venv", ". other"),
        ENVIRONMENT.replace("python -m pip install", "pip install"),
        ENVIRONMENT + ENVIRONMENT,
    ],
    ids=["made", "activated", "installed", "twice"],
)
@pytest.mark.timeout(180)
def test_environment_that_is_made_otherwise(rehearsal: Rehearsal, wrong: str) -> None:
    """What the test does must be what the page says."""
    with pytest.raises(AssertionError):
        run(rehearsal, wrong)


def test_what_a_page_does_not_show_is_kept(rehearsal: Rehearsal) -> None:
    """Python that prints more than the page shows does not pass unnoticed."""
    run(rehearsal, "```python\nprint('more')\n```\n")

    assert rehearsal.left_out() == "more\n"


@pytest.mark.parametrize(
    "text",
    [
        "```ruby\nputs 1\n```\n",
        "```{code-block} python\n1 / 0\n```\n",
        "```\nno language\n```\n",
        "<!-- nto run: x -->\n```python\n```\n",
        "<!-- stays -->\n",
    ],
)
def test_what_nobody_runs_is_an_error(tmp_path: Path, text: str) -> None:
    """A block in no known language, a note that is misspelt, and one before no block are not passed over."""
    with pytest.raises(AssertionError):
        str([item.kind for item in items(tmp_path / "page.md", text)])


@pytest.mark.parametrize(
    "expected, actual, same",
    [
        ("one\ntwo\n", "one\ntwo", True),
        ("one\n", "one\ntwo\n", False),
        ("one\n...\n", "one\ntwo\nthree\n", True),
        ("...\nthree\n", "one\ntwo\nthree\n", True),
        ("in ... s\n", "in 0.31 s\n", True),
        ("in ... s\n", "in 0.31 s, and more\n", False),
        ("a.c\n", "abc\n", False),
        ("a     b\n", "a   b\n", True),
        ("one\n", "[52/79] a-rule; 0 broken so far\none\n", True),
    ],
)
def test_what_agrees(expected: str, actual: str, same: bool) -> None:
    """Dots stand for anything in a line, and alone for any lines; other text stands for itself."""
    assert agrees(expected, actual) is same

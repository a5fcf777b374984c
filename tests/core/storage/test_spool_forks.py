"""A spool whose process forks: children leave it alone."""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from producer_pool.model.errors import ForkedPool
from support.processes import run_program
from support.spools import Desk


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "spool"


FORKING = """
    import asyncio, gc, os, queue, sys, threading
    from pathlib import Path
    from producer_pool.model.batch import Batch
    from producer_pool.model.errors import ForkedPool
    from producer_pool.model.policies import Spool
    from producer_pool.storage.spool import SpoolStore

    folder = Path(sys.argv[1])

    def child(store):
        try:
            store.append(Batch.of([b"child"]), None, print)
        except ForkedPool:
            pass
        else:
            os._exit(3)
        store.close()
        gc.collect()
        sys.exit(0)

    # A child that touched the loop would take its files from the parent; so it runs elsewhere.
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    def on_loop(function, *arguments):
        async def call():
            return function(*arguments)
        return asyncio.run_coroutine_threadsafe(call(), loop).result(20)

    store = SpoolStore(Spool(folder))
    store.open()
    on_loop(store.start, lambda: None, print)
    on_loop(store.join, "a")
    for number in range(50):
        answers = queue.SimpleQueue()
        on_loop(store.append, Batch.of([b"%d" % number]), None, answers.put)
        if number % 10 == 5:
            pid = os.fork()
            if not pid:
                child(store)
            assert os.waitpid(pid, 0)[1] == 0
            assert (folder / "spool.db-wal").stat().st_size
        assert answers.get(timeout=20)
    os._exit(0)  # as if killed: what was stored must be in the log
"""


async def test_forked_children_leave_it_alone(folder: Path) -> None:
    """A child that ends, as Python ends, neither closes nor writes the database of its parent."""
    run_program(FORKING, folder)
    async with Desk(folder) as desk:
        desk.join("a")

        assert await desk.messages("a") == [b"%d" % number for number in range(50)]


NAIVE = """
    import os, sqlite3, sys
    connection = sqlite3.connect(sys.argv[1], isolation_level=None)
    for statement in ("PRAGMA locking_mode = EXCLUSIVE", "PRAGMA journal_mode = WAL", "CREATE TABLE t (x)"):
        connection.execute(statement)
    connection.execute("INSERT INTO t VALUES (1)")
    pid = os.fork()
    if not pid:
        sys.exit(0)
    os.waitpid(pid, 0)
    connection.execute("INSERT INTO t VALUES (2)")
    os._exit(0)
"""


def test_naive_one_is_closed_by_its_child(tmp_path: Path) -> None:
    """The control: a connection that a child inherits is closed by it, and what the parent writes is lost."""
    run_program(NAIVE, tmp_path / "naive.db")
    with closing(sqlite3.connect(tmp_path / "naive.db")) as connection:
        assert connection.execute("SELECT x FROM t").fetchall() == [(1,)]


LOCKING = """
    import multiprocessing, os, sys, time
    from producer_pool.model.policies import Spool
    from producer_pool.storage.spool import SpoolStore

    def wait(pipe):
        pipe.send(0)
        pipe.recv()

    store = SpoolStore(Spool(sys.argv[1]))
    store.open()
    ours, theirs = multiprocessing.Pipe()
    child = multiprocessing.get_context("fork").Process(target=wait, args=(theirs,))
    child.start()
    ours.recv()
    store.close()
    again = SpoolStore(Spool(sys.argv[1]))
    again.open()
    again.close()
    ours.send(0)
    child.join()
    sys.exit(child.exitcode)
"""


def test_forked_children_do_not_keep_the_lock(folder: Path) -> None:
    """A worker that outlives its parent does not keep the next one out."""
    run_program(LOCKING, folder)


async def test_forked_store_says_so(folder: Path) -> None:
    """Calls in a child raise what those of a pool raise."""
    async with Desk(folder) as desk:
        pid = os.fork()
        if not pid:
            try:
                desk.store.join("a")
            except ForkedPool:
                os._exit(0)
            finally:
                os._exit(1)
        assert os.waitpid(pid, 0)[1] == 0
        desk.join("a")
        assert await desk.stored(b"parent") == 1

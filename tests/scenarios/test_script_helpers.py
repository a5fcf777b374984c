"""The pool of the process and its helper functions, as a script uses them."""

from support.consumers import RecordingConsumer
from support.processes import run_program


def test_script_with_the_pool_of_the_process() -> None:
    """Helper functions and get_producer_pool() work on one pool, which closes itself at the end."""
    program = """
        import sys
        from producer_pool import (
            add_producer, add_tcp_producer, forward_to_all_producers, forward_to_producer, get_producer_pool
        )

        database, audit, extra = sys.argv[1:]
        add_tcp_producer("database-writer", f"127.0.0.1:{database}", timeout=20)
        add_tcp_producer("audit", f"127.0.0.1:{audit}")
        add_producer("extra", f"tcp://127.0.0.1:{extra}")
        for producer_id, result in forward_to_all_producers("Broadcast").items():
            print(producer_id, "ok" if result.ok else result.error)
        print(forward_to_producer("audit", b"one").ok)
        print(get_producer_pool().forward_to_many(["audit", "extra"], "two").ok)
        get_producer_pool().submit("later")
    """
    with RecordingConsumer() as database, RecordingConsumer() as audit, RecordingConsumer() as extra:
        ended = run_program(program, database.port, audit.port, extra.port)

        assert ended.stdout.split("\n")[:3] == ["database-writer ok", "audit ok", "extra ok"]
        assert ended.stdout.split()[-2:] == ["True", "True"]
        assert ended.stderr == ""
        assert database.wait_for(2) == [b"Broadcast", b"later"]
        assert audit.wait_for(4) == [b"Broadcast", b"one", b"two", b"later"]
        assert extra.wait_for(3) == [b"Broadcast", b"two", b"later"]


def test_script_names_a_producer_that_is_not_there() -> None:
    """The error names those that are."""
    program = """
        from producer_pool import UnknownProducer, add_producer, add_tcp_producer, forward_to_producer

        add_tcp_producer("a", "127.0.0.1:9")
        try:
            forward_to_producer("b", "hello")
        except UnknownProducer as error:
            print(error)
        try:
            add_producer("a", "tcp://127.0.0.1:9")
        except ValueError as error:
            print(error)
    """
    unknown, duplicate = run_program(program).stdout.splitlines()

    assert "'b'" in unknown
    assert "known: a" in unknown
    assert "'a' is in the pool already" in duplicate


def test_timeout_of_a_helper() -> None:
    """It bounds the attempt of this producer, and the result says so."""
    program = """
        import sys, time
        from producer_pool import add_tcp_producer, forward_to_producer

        add_tcp_producer("stuck", sys.argv[1], timeout=0.3)
        for _ in range(1000):
            began = time.monotonic()
            result = forward_to_producer("stuck", b"x" * 65536)
            if not result.ok:
                break
        print(time.monotonic() - began < 10, result.error)  # which is what it has if nothing is said
    """
    with RecordingConsumer(reads=False, receive_buffer=8192) as stuck:
        ended = run_program(program, f"127.0.0.1:{stuck.port}")

        assert ended.stdout.startswith("True")
        assert "accepts but does not read" in ended.stdout or "within 300ms" in ended.stdout

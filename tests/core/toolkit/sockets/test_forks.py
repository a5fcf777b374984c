"""What a forked child does not have of its parent: sockets, and what watches them."""

import pytest

from support.processes import run_program

LIVES_ON = """
    import os, select, signal, socket, sys, threading

    def child_that_lives_on():
        \"""Fork a child that does nothing; return its id once it is there.\"""
        hears, says = os.pipe()
        pid = os.fork()
        if not pid:
            os.write(says, b"!")
            signal.pause()
        os.read(hears, 1)
        return pid

    def end(pid):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
"""


def test_port_is_free_when_the_parent_closes_it() -> None:
    """A child that lives on does not hold it."""
    run_program(
        LIVES_ON
        + """
    from producer_pool import ProducerPool, bind_transport

    # Bound, and not listened at: nobody else is given this port, and whoever reuses it can listen.
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    holder.bind(("127.0.0.1", 0))
    url = f"tcp://127.0.0.1:{holder.getsockname()[1]}"
    with ProducerPool() as pool:
        server = bind_transport(url, pool)
        pid = child_that_lives_on()
        server.close()
        bind_transport(url, pool).close()
    end(pid)
    """
    )


def test_consumer_sees_the_end_when_the_parent_closes() -> None:
    """A child that lives on does not keep the connection open."""
    run_program(
        LIVES_ON
        + """
    from producer_pool import ProducerPool

    with socket.create_server(("127.0.0.1", 0)) as consumer:
        pool = ProducerPool()
        pool.add_producer("a", f"tcp://127.0.0.1:{consumer.getsockname()[1]}")
        assert pool.forward_to_all("one").ok
        taken, _ = consumer.accept()
        pid = child_that_lives_on()
        pool.worker()._loop.call_soon_threadsafe(  # As if it died: no shutdown() comes before the close.
            lambda: pool._worker.engine._producers["a"].client._socket.close()
        )
        taken.settimeout(20)
        assert taken.recv(100) == b"one\\n"
        assert taken.recv(100) == b""
        taken.close()
        pool.close(drain=0)
    end(pid)
    """
    )


@pytest.mark.parametrize("poller", [False, True])
def test_descriptor_in_the_child(poller: bool) -> None:
    """It is open and leads nowhere: to use it is an error, to unregister at it touches nobody else's."""
    program = """
        import os, select, socket, sys
        from producer_pool.toolkit.sockets.forks import keep_from_children

        here, there = socket.socketpair()
        watching = select.epoll()
        watching.register(here, select.EPOLLIN)

        class Poller:
            fileno = watching.fileno

        kept = Poller()
        if sys.argv[1] == "True":
            keep_from_children(kept, poller=True)
        else:
            keep_from_children(here)
        pid = os.fork()
        if not pid:
            if sys.argv[1] == "True":
                assert watching.poll(0) == []
            try:
                watching.unregister(here.fileno())
            except OSError:
                pass
            else:
                raise AssertionError("it was registered")
            if sys.argv[1] == "False":
                try:
                    here.send(b"from the child")
                except OSError:
                    os._exit(0)
                raise AssertionError("it was sent")
            os._exit(0)
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        there.send(b"to the parent")
        assert watching.poll(0) == [(here.fileno(), select.EPOLLIN)]
        assert here.recv(100) == b"to the parent"
    """

    run_program(program, poller)


def test_closed_ones_are_left_alone() -> None:
    """Their numbers may belong to something else by now."""
    run_program(
        """
        import os, select, socket
        from producer_pool.toolkit.sockets.forks import keep_from_children

        sock, epoll = socket.socket(), select.epoll()

        class Poller:
            fileno = epoll.fileno

        poller = Poller()
        keep_from_children(sock)
        keep_from_children(poller, poller=True)
        sock.close()
        epoll.close()
        hears, says = os.pipe()
        if not os.fork():
            os.write(says, b"!")
            os._exit(0)
        assert os.read(hears, 1) == b"!"
        os.wait()
        """
    )

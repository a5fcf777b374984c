"""The pool of the process, from where one may not wait for oneself."""

from support.processes import run_program


def test_signal_handler_uses_the_pool_of_the_process() -> None:
    """It may come while that is being made, and both get the same."""
    run_program(
        """
        import signal
        from producer_pool import ProducerPool, get_producer_pool, shortcuts

        found, armed = [], [True]

        class Interrupted(ProducerPool):
            def __init__(self):
                if armed:
                    armed.clear()
                    signal.raise_signal(signal.SIGUSR1)
                super().__init__()

        shortcuts.ProducerPool = Interrupted
        signal.signal(signal.SIGUSR1, lambda number, frame: found.append(get_producer_pool()))
        signal.alarm(15)
        found.append(get_producer_pool())
        found.append(get_producer_pool())
        assert len(found) == 3
        assert len(set(found)) == 1
        """
    )


def test_forked_while_the_pool_of_the_process_is_made() -> None:
    """The child, in which the thread that makes it does not exist, gets one of its own."""
    run_program(
        """
        import os, signal, threading
        from producer_pool import get_producer_pool, shortcuts

        making, go_on = threading.Event(), threading.Event()

        def make():
            with shortcuts._lock:
                making.set()
                assert go_on.wait(10)

        thread = threading.Thread(target=make)
        thread.start()
        assert making.wait(10)
        child = os.fork()
        if not child:
            signal.alarm(15)
            get_producer_pool()
            os._exit(0)
        go_on.set()
        thread.join()
        assert os.waitpid(child, 0)[1] == 0
        """
    )

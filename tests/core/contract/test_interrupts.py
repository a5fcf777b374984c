"""An interrupt is one where Python handles signals, and nowhere else."""

import threading

from producer_pool.contract.interrupts import is_interrupt


def test_on_the_main_thread() -> None:
    """There it is meant for the program; nothing else is."""
    assert is_interrupt(KeyboardInterrupt())
    assert not is_interrupt(SystemExit())
    assert not is_interrupt(ValueError())


def test_on_another_thread() -> None:
    """There it is an exception as any other: some code has raised it."""
    found: list[bool] = []
    thread = threading.Thread(target=lambda: found.append(is_interrupt(KeyboardInterrupt())))
    thread.start()
    thread.join()

    assert found == [False]

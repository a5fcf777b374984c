"""The changes for the worse to what a signal may come into the middle of, and the tests that notice."""

from typing import Final

from support.sabotage import Sabotage

__all__ = ["INTERRUPTS"]

CORE: Final = "core/src/producer_pool"

INTERRUPTS: Final = (
    Sabotage(
        "an interrupt leaves the log of submits locked",
        f"{CORE}/delivery/submitlog.py",
        "                lock.release()\n            except RuntimeError",
        "                pass\n            except RuntimeError",
        "test_submitlog_between.py::test_interrupt_in_the_middle",
    ),
    Sabotage(
        "signals are not deferred while the main thread does the loop's step",
        f"{CORE}/lending.py",
        "        if ident == threading.main_thread().ident:",
        "        if False:",
        "test_interrupted_calls.py::test_interrupt_at_every_point_of_a_verb[forward_to_all-in the pool]",
    ),
    Sabotage(
        "an interrupt is raised where it strikes, in the middle of a pool's work, too",
        f"{CORE}/deferral.py",
        "    return any(map(_is_ours, _outward(frame)))",
        "    return False",
        "test_deferral.py::test_code_of_the_pool",
    ),
    Sabotage(
        "an interrupt is raised out of callbacks and the loop itself",
        f"{CORE}/deferral.py",
        "    if task is None or _is_over(",
        "    if task is not None and _is_over(",
        "test_deferral.py::test_callback",
    ),
    Sabotage(
        "an interrupt is raised out of asyncio while it tells of the end of a task",
        f"{CORE}/deferral.py",
        "    if task is None or _is_over(task.get_coro()):",
        "    if task is None:",
        "test_ctrl_c.py::test_interrupt_at_every_point_of_asyncio",
    ),
    Sabotage(
        "a task that is thrown away with its loop connects again for ever",
        f"{CORE}/delivery/containment.py",
        "return asyncio.current_task(loop) is task",
        "return True",
        "test_forgotten_pools.py::test_pool_is_forgotten_with_its_loop[one by one]",
    ),
    Sabotage(
        "a wake-up that was interrupted is not made again",
        f"{CORE}/delivery/submitlog.py",
        "            self._awake = False\n            self._wake()\n            raise",
        "            raise",
        "test_interrupted_calls.py::test_interrupt_at_every_point_of_a_verb[submit-in the pool]",
    ),
    Sabotage(
        "a call may wait in the middle of a submit of its own thread",
        f"{CORE}/delivery/submitlog.py",
        "        if self._interrupted:\n            raise WrongThread(",
        "        if False:\n            raise WrongThread(",
        "test_odd_places.py::test_signal_handler_at_every_point[forward_to_all-submit]",
    ),
)

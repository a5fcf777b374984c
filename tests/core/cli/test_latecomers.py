"""Modules that are loaded at their first use."""

from __future__ import annotations

from pathlib import Path

from support.processes import run_program


def test_nothing_is_loaded_until_it_is_used() -> None:
    """The import runs nothing; the first use of a name in it runs all, and then it is the module as ever."""
    run_program("""
        import sys
        from producer_pool.cli.latecomers import let_come_late

        let_come_late()
        import asyncio, ssl
        assert "_ssl" not in sys.modules
        assert asyncio.sslproto is sys.modules["asyncio.sslproto"]
        assert ssl.__spec__.origin == ssl.__file__ and ssl.__loader__.get_source("ssl")
        assert "_ssl" not in sys.modules
        assert issubclass(ssl.SSLError, OSError)
        assert "_ssl" in sys.modules and "__getattr__" not in vars(ssl)
        from asyncio.sslproto import SSLProtocol
        assert SSLProtocol is asyncio.sslproto.SSLProtocol
        ssl.create_default_context()
    """)


def test_control_without_it_asyncio_loads_ssl() -> None:
    """What the test above looks at tells the two apart."""
    run_program("import asyncio, sys; assert '_ssl' in sys.modules")


def test_names_that_are_not_there() -> None:
    """They are an AttributeError of the module, as ever, whether it is loaded or not."""
    run_program("""
        from producer_pool.cli.latecomers import let_come_late

        let_come_late()
        import ssl
        for attempt in range(2):
            try:
                ssl.no_such_name
            except AttributeError as error:
                assert "'ssl' has no attribute 'no_such_name'" in str(error), error
            else:
                raise AssertionError
        assert not hasattr(ssl, "neither_this")
    """)


def test_star_import() -> None:
    """It gets all that the module has."""
    run_program("""
        from producer_pool.cli.latecomers import let_come_late

        let_come_late()
        from ssl import *
        SSLContext, create_default_context
    """)


def test_threads_that_use_it_at_once(tmp_path: Path) -> None:
    """Each waits until it is loaded, whole and once."""
    late = tmp_path / "late_module.py"
    late.write_text("import builtins, time\nbuiltins.runs += 1\ntime.sleep(0.05)\nname = 1\n")
    run_program(
        """
        import builtins, sys, threading
        from producer_pool.cli.latecomers import let_come_late

        builtins.runs = 0
        sys.path.insert(0, sys.argv[1])
        let_come_late(frozenset({"late_module"}))
        import late_module
        seen = []
        threads = [threading.Thread(target=lambda: seen.append(late_module.name)) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1] * 8, seen
        assert builtins.runs == 1, builtins.runs
        """,
        tmp_path,
    )


def test_loading_that_fails(tmp_path: Path) -> None:
    """Who uses it gets the error, and the next use tries again: descriptors may be there again."""
    late = tmp_path / "late_module.py"
    late.write_text(
        "import builtins\nif builtins.full:\n    raise OSError(24, 'Too many open files')\nname = 1\n"
    )
    run_program(
        """
        import builtins, sys
        from producer_pool.cli.latecomers import let_come_late

        sys.path.insert(0, sys.argv[1])
        let_come_late(frozenset({"late_module"}))
        import late_module
        builtins.full = True
        for attempt in range(2):
            try:
                late_module.name
            except OSError as error:
                assert error.errno == 24
            else:
                raise AssertionError
        builtins.full = False
        assert late_module.name == 1
        """,
        tmp_path,
    )


def test_module_that_asks_itself(tmp_path: Path) -> None:
    """While it is loaded, what is not there yet is an AttributeError, and no second start."""
    late = tmp_path / "late_module.py"
    late.write_text("import sys\nearly = hasattr(sys.modules[__name__], 'name')\nname = 1\n")
    run_program(
        """
        import sys
        from producer_pool.cli.latecomers import let_come_late

        sys.path.insert(0, sys.argv[1])
        let_come_late(frozenset({"late_module"}))
        import late_module
        assert (late_module.name, late_module.early) == (1, False)
        """,
        tmp_path,
    )

"""Animals that say the wrong thing of themselves, or do too much when they are imported."""

from __future__ import annotations

import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from producer_pool.discovery.registry import Registry
from producer_pool.plugin import hookimpl
from producer_pool.testing.subject import Subject
from support.distributions import Site, transports_module
from support.zoo.animal import URL, Animal, Plugin, cleaning, transport

__all__ = ["HEALTHY", "InstalledAnimal"]


@dataclass(frozen=True)
class InstalledAnimal(Animal):
    """One that is installed, as two files of metadata and a module."""

    headers: str = "Requires-Python: >=3.11\nRequires-Dist: producer-pool<0.2,>=0.1\n"
    schemes: tuple[str, ...] = ("zoo",)
    """Those of its entry points."""
    package: bool = False
    """Whether its module is a package."""

    def subject(self) -> Subject:
        """Install it, until the end of the test, and return it as the suite takes it."""
        site = Site(Path(tempfile.mkdtemp(prefix="zoo-")))
        cleaning.append(lambda: shutil.rmtree(site.folder))
        module = f"zoo_{self.name.replace('-', '_')}"
        metadata = site.install(self.name, transports=dict.fromkeys(self.schemes, module))
        (metadata / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {self.name}\nVersion: 1.0\n{self.headers}\nText\n"
        )
        path = site.folder / (f"{module}/__init__.py" if self.package else f"{module}.py")
        path.parent.mkdir(exist_ok=True)
        path.write_text(transports_module("zoo", more=str(self.plugin)))
        sys.path.insert(0, str(site.folder))
        cleaning.append(lambda: sys.path.remove(str(site.folder)))
        cleaning.append(site.forget_modules)
        return Subject(URL, Registry())


HEALTHY: Final = (InstalledAnimal("installed", "nothing", "", "", ""),)
"""One that keeps every rule."""

FITS_EVERY_CORE: Final = InstalledAnimal(
    "fits-every-core",
    "Its metadata has no ceiling for core.",
    "metadata-is-valid",
    r"it requires producer-pool>=0\.1, without a ceiling; such as producer-pool>=0\.1,<0\.2",
    "",
    headers="Requires-Python: >=3.11\nRequires-Dist: something<2\nRequires-Dist: producer-pool>=0.1\n",
)
NEEDS_NO_CORE: Final = InstalledAnimal(
    "needs-no-core",
    "Its metadata does not name core at all.",
    "metadata-is-valid",
    r"it does not require producer-pool",
    "",
    headers="Requires-Python: >=3.11\nRequires-Dist: producer-pool-tcp<0.2,>=0.1\n",
)
RUNS_EVERYWHERE: Final = InstalledAnimal(
    "runs-everywhere",
    "Its metadata does not say for which Python it is.",
    "metadata-is-valid",
    r"the metadata has no Requires-Python",
    "",
    headers="Requires-Dist: producer-pool<0.2,>=0.1\n",
)
HAS_NO_TYPES: Final = InstalledAnimal(
    "has-no-types",
    "It is a package without py.typed.",
    "metadata-is-valid",
    r"the package zoo_has_no_types has no file py\.typed",
    "",
    package=True,
)
HAS_AN_ENTRY_FOR_NOTHING: Final = InstalledAnimal(
    "has-an-entry-for-nothing",
    "One of its entry points is for a scheme that it does not offer.",
    "metadata-is-valid",
    r"its entry point for zoo\+tls cannot be loaded: .* offers zoo",
    "",
    schemes=("zoo", "zoo.tls"),
)
STARTS_A_THREAD: Final = InstalledAnimal(
    "starts-a-thread",
    "Importing it starts a thread.",
    "imports-lightly",
    r"importing it starts a thread",
    "import threading\nthreading.Thread(target=threading.Event().wait, daemon=True).start()\n",
)
OPENS_A_SOCKET: Final = InstalledAnimal(
    "opens-a-socket",
    "Importing it looks for something in the network.",
    "imports-lightly",
    r"importing it opens a socket",
    "import socket\nsocket.socket().close()\n",
)
LOOKS_UP_A_NAME: Final = InstalledAnimal(
    "looks-up-a-name",
    "Importing it asks for the address of a host.",
    "imports-lightly",
    r"importing it looks up a name",
    "import socket\nsocket.gethostbyname('localhost')\n",
)
PRINTS_WHEN_IMPORTED: Final = InstalledAnimal(
    "prints-when-imported",
    "Importing it prints something.",
    "imports-lightly",
    r"importing it prints 'hello",
    "print('hello')\n",
)
CHANGES_LOGGING: Final = InstalledAnimal(
    "changes-logging",
    "Importing it configures logging.",
    "imports-lightly",
    r"importing it changes logging",
    "import logging\nlogging.basicConfig(level='DEBUG')\n",
)
TAKES_LONG_TO_IMPORT: Final = InstalledAnimal(
    "takes-long-to-import",
    "Importing it takes long.",
    "imports-lightly",
    r"importing it takes \d+ ms, \d+ times as long as",
    # To the process that measures it. Its clock says so, and nobody has to wait.
    "import __main__, time\n"
    "if hasattr(__main__, 'core'):\n"
    "    clock = time.perf_counter\n"
    "    time.perf_counter = lambda: clock() + 10000\n",
)


class _Forgetful(Plugin):
    """It forgot the mark."""

    def producer_pool_observer(self, pool: object) -> None:
        """Watch the pool."""


class _Waiting(Plugin):
    """It has a hook that would have to be awaited."""

    @hookimpl
    async def producer_pool_started(self, pool: object) -> None:
        """Wait for something."""


FORGETS_THE_MARK: Final = Animal(
    "forgets-the-mark",
    "One of its hooks is not marked.",
    "hooks-are-marked",
    r"producer_pool_observer\(\) is not marked with @hookimpl",
    _Forgetful(transport()),
)
WAITS_IN_A_HOOK: Final = Animal(
    "waits-in-a-hook",
    "One of its hooks is a coroutine function.",
    "hooks-are-marked",
    r"producer_pool_started\(\) is a coroutine function",
    _Waiting(transport()),
)

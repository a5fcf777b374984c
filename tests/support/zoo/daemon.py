"""Animals in files of their own, which get along with the suite, and not with the daemon."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from producer_pool.discovery.registry import Registry
from producer_pool.testing.subject import Subject
from support.zoo.animal import URL, Animal, cleaning

__all__ = ["HEALTHY", "FileAnimal"]

SOURCE: Final = '''
"""A transport of the scheme zoo that keeps every rule."""

import asyncio
import signal
import sys
import threading
from dataclasses import dataclass

from producer_pool.plugin import (
    TCP_ACKS, ConfigurationError, ConnectError, StreamClient, StreamClientOptions, StreamListener,
    StreamListenerOptions, TcpBinding, TcpDialer, TcpOptions, Transport, hookimpl,
)


@dataclass(frozen=True)
class ZooOptions(TcpOptions, StreamClientOptions):
    """What the URL of a consumer may say."""


class ZooClient(StreamClient):
    def __init__(self, endpoint, options):
        endpoint.no_more_than_host_and_port()
        super().__init__(TcpDialer(endpoint, options), options, protocol_name="zoo")


class ZooListener(StreamListener):
    def __init__(self, endpoint, options):
        endpoint.no_more_than_host_and_port()
        super().__init__(TcpBinding(endpoint, allow_remote=False), options)


@hookimpl
def producer_pool_transports():
    yield Transport(
        schemes=("zoo",), client=ZooClient, listener=ZooListener, options=ZooOptions,
        listener_options=StreamListenerOptions, acks=TCP_ACKS, loopback="zoo://127.0.0.1:0",
    )
'''


@dataclass(frozen=True)
class FileAnimal(Animal):
    """One that is a file: the healthy one, and behind it what makes it wrong."""

    def subject(self) -> Subject:
        """Write the file, until the end of the test, and return it as the suite takes it."""
        folder = tempfile.mkdtemp(prefix="zoo-")
        cleaning.append(lambda: shutil.rmtree(folder))
        path = Path(folder) / f"{self.name.replace('-', '_')}.py"
        path.write_text(f"{SOURCE}\n\n{self.plugin}")
        registry = Registry()
        registry.register_file(path)
        return Subject(URL, registry)


HEALTHY: Final = (FileAnimal("in-a-file", "nothing", "", "", ""),)
"""One that keeps every rule."""

PRINTS_INTO_THE_JSON: Final = FileAnimal(
    "prints-into-the-json",
    "What it prints goes to the daemon's stdout.",
    "daemon-takes-and-forwards",
    r"the daemon printed b'zoo is here' among its JSON; does the plugin print\?",
    "if threading.current_thread() is threading.main_thread():\n    print('zoo is here', flush=True)\n",
)
CANNOT_BE_LOADED_ALONE: Final = FileAnimal(
    "cannot-be-loaded-alone",
    "It needs a module that is not there in the daemon.",
    "daemon-takes-and-forwards",
    r"the daemon ended with 78; it said: (.|\n)*only in this program",
    "if 'pytest' not in sys.modules:\n    raise ImportError('it works only in this program')\n",
)
HAS_A_HANDLER_OF_ITS_OWN: Final = FileAnimal(
    "has-a-handler-of-its-own",
    "It takes SIGTERM for itself.",
    "daemon-ends-cleanly",
    r"waited .* in vain: the daemon ends after SIGTERM",
    """
async def connect(self):
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    await StreamClient.connect(self)

ZooClient.connect = connect
""",
)
FORGETS_WHAT_IT_HOLDS: Final = FileAnimal(
    "forgets-what-it-holds",
    "Its listener keeps what it read for a while, and drain() does not know of that.",
    "daemon-ends-cleanly",
    r"\d+ of 101 messages did not arrive through the daemon",
    """
class Late:
    def __init__(self, intake):
        self.intake, self.fed, self.paused = intake, 0, False

    def feed(self, batch):
        self.fed += 1
        asyncio.get_running_loop().call_later(0.0 if self.fed == 1 else 60.0, self.intake.feed, batch)

async def start(self, intake):
    if threading.current_thread() is threading.main_thread():
        intake = Late(intake)
    return await StreamListener.start(self, intake)

ZooListener.start = start
""",
)
GIVES_UP: Final = FileAnimal(
    "gives-up",
    "When its consumer was away once, it does not try again.",
    "daemon-survives-its-consumer",
    r"20 of 20 messages did not arrive through the daemon; it said: (.|\n)*it failed before",
    """
async def connect(self):
    if getattr(self, "failed", False):
        raise ConnectError("it failed before")
    try:
        await StreamClient.connect(self)
    except ConnectError:
        self.failed = True
        raise

ZooClient.connect = connect
""",
)
READS_THE_COMMAND_LINE: Final = FileAnimal(
    "reads-the-command-line",
    "It wants to be named on the command line.",
    "found-by-environment",
    r"the daemon ended with 78; it said: (.|\n)*name the consumer with --to",
    """
made = ZooClient.__init__

def make(self, endpoint, options):
    if "--to" not in sys.argv:
        raise ConfigurationError("name the consumer with --to")
    made(self, endpoint, options)

ZooClient.__init__ = make
""",
)

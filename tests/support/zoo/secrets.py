"""Animals that show what nobody should see."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from producer_pool.plugin import ConnectError, Endpoint, Rejected, option
from support.zoo.animal import animal
from support.zoo.healthy import PlainClient, ZooOptions


@dataclass(frozen=True)
class TokenOptions(ZooOptions):
    """Those of the healthy ones, and a secret."""

    token: str = option("", "what the consumer knows us by")


class SecretClient(PlainClient):
    """Its URL may have a password, and a token."""

    def __init__(self, endpoint: Endpoint, options: TokenOptions) -> None:
        super().__init__(Endpoint.parse(f"zoo://{endpoint.host}:{endpoint.port}"), options)
        self.endpoint = endpoint


@animal("shows-no-secret", says=r"client\.address shows the password before the @: zoo://user:<THE SECRET>@")
class PrintsThePassword(SecretClient):
    """Its address is the URL as it was written."""

    def __init__(self, endpoint: Endpoint, options: TokenOptions) -> None:
        super().__init__(endpoint, options)
        self.address = endpoint.raw


@animal(
    "shows-no-secret",
    says=r"the error of connecting to one that is not there shows .*: cannot reach zoo://user:<THE SECRET>@",
)
class NamesTheUrlInItsError(SecretClient):
    """What connect() raises has the whole URL in it."""

    async def connect(self) -> None:
        try:
            await super().connect()
        except ConnectError:
            raise ConnectError(f"cannot reach {self.endpoint.raw}") from None


@animal(
    "shows-no-secret",
    says=r"the traceback of connecting to one that is not there shows .*: ValueError: .*<THE SECRET>@",
)
class HangsTheUrlOnItsError(SecretClient):
    """What connect() raises has a cause, which has the whole URL in it."""

    async def connect(self) -> None:
        try:
            await super().connect()
        except ConnectError as error:
            raise ConnectError(str(error)) from ValueError(self.endpoint.raw)


@animal(
    "shows-no-secret",
    says=r"a log line, or what is printed, shows the option token: zoo.client: says hello with <THE SECRET>",
    options=TokenOptions,
)
class LogsItsToken(SecretClient):
    """It logs its token, at a level that nobody looks at."""

    async def connect(self) -> None:
        logging.getLogger("zoo.client").debug("says hello with %s", self.endpoint.options.get("token"))
        await super().connect()


@animal("has-an-address", says=r"client\.address is ''; say it in a few words")
class HasNoAddress(PlainClient):
    """It does not say where it sends to."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)  # type: ignore[arg-type]
        self.address = ""


@animal(
    "shows-no-message",
    says=r"a log line, or what is printed, shows a message: zoo.client: sends b'<THE SECRET>",
)
class LogsMessages(PlainClient):
    """It logs what it sends, at a level that nobody looks at."""

    async def send(self, message: bytes) -> None:
        logging.getLogger("zoo.client").debug("sends %r", message)
        await super().send(message)


@animal("shows-no-message", says=r"the error of .* shows a message: cannot carry b'a\\n<THE SECRET>")
class QuotesTheMessage(PlainClient):
    """What it raises for a message that it cannot carry has the message in it."""

    async def send(self, message: bytes) -> None:
        try:
            await super().send(message)
        except Rejected:
            raise Rejected(f"cannot carry {message!r}") from None

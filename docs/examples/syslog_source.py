"""A program that logs with the standard library alone, to a listener that ends messages with NUL."""

import logging
import logging.handlers
import socket

handler = logging.handlers.SysLogHandler(("127.0.0.1", 9101), socktype=socket.SOCK_STREAM)
log = logging.getLogger("shop")
log.addHandler(handler)

log.warning("order 1 is late")
log.error("order 2 is lost")
handler.close()

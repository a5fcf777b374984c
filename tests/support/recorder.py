"""
The process of a ProcessConsumer: ``recorder.py FOLDER PLACE RECEIVE_BUFFER``. The place is a port, or a path.

Each connection is read straight into a file of its own that is mapped into memory. So what has left the
kernel's buffer is in the record, and no kill comes between.
"""

import mmap
import selectors
import socket
import sys
from pathlib import Path

ROOM = 256 * 1024 * 1024
"""Bytes that one connection may bring. The files have holes: they take what was written."""


class Connection:
    def __init__(self, sock: socket.socket, path: Path) -> None:
        self.socket = sock
        with path.open("w+b") as file:
            file.truncate(ROOM)
            self._memory = memoryview(mmap.mmap(file.fileno(), ROOM))
        self._end = 0

    def read(self) -> bool:
        """Read what is there; False at the end of the stream."""
        try:
            size = self.socket.recv_into(self._memory[self._end :], 65536)
        except ConnectionResetError:
            return False
        self._end += size
        return size > 0


def listener(place: str, receive_buffer: int) -> socket.socket:
    if not place.isdigit():
        Path(place).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(place)
    else:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listening.bind(("127.0.0.1", int(place)))
    listening.listen()
    return listening


def main(folder: Path, listening: socket.socket) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    print("listening", flush=True)
    count = len(list(folder.iterdir()))
    while True:
        for key, _ in selector.select():
            if key.data is None:
                sock, _ = listening.accept()
                selector.register(sock, selectors.EVENT_READ, Connection(sock, folder / f"{count:06}"))
                count += 1
            elif not key.data.read():
                selector.unregister(key.fileobj)
                key.data.socket.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), listener(sys.argv[2], int(sys.argv[3])))

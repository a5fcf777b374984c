"""
The process of a ProcessConsumer: ``recorder.py FOLDER PLACE BEHAVIOUR``; the place is HOST:PORT, or a path.

Each connection is read straight into a file of its own that is mapped into memory. So what has left the
kernel's buffer is in the record, and no kill comes between. The behaviour is a JSON object:

receive_buffer  bytes of SO_RCVBUF, for connections over TCP; 0: the system's
rate            bytes to read in a second, over all connections; 0: as fast as they come
reads           false: accept, and never read
poison          text: reset a connection as soon as it brought this
answers         true: acknowledge as ack=app asks, by the count of the connection's messages
"""

import json
import mmap
import selectors
import socket
import struct
import sys
import time
from pathlib import Path
from typing import Any

ROOM = 4 * 1024 * 1024 * 1024
"""Bytes that one connection may bring. The files have holes: they take what was written."""


class Connection:
    def __init__(self, sock: socket.socket, path: Path, behaviour: dict[str, Any]) -> None:
        self.socket = sock
        self._rate = behaviour["rate"]
        self._poison = behaviour["poison"].encode()
        self._answers = behaviour["answers"]
        with path.open("w+b") as file:
            file.truncate(ROOM)
            self._map = mmap.mmap(file.fileno(), ROOM)
        self._memory = memoryview(self._map)
        self._end = 0
        self._counted = 0
        """Bytes of whole messages that are counted."""
        self._count = 0

    def read(self) -> bool:
        """Read what is there; False at the end of the connection."""
        try:
            size = self.socket.recv_into(self._memory[self._end :], 4096 if self._rate else 65536)
        except ConnectionResetError:
            return False
        # Poison may have come in two pieces.
        seen = max(0, self._end - len(self._poison))
        self._end += size
        if self._rate:
            time.sleep(size / self._rate)
        poison = self._map.find(self._poison, seen, self._end) if self._poison else -1
        # Whoever chokes on a message has answered those before it.
        good = self._map.rfind(b"\n", 0, poison) + 1 if poison >= 0 else self._end
        if self._answers:
            self._count += self._map[self._counted : good].count(b"\n")
            self._counted = good
            try:
                self.socket.sendall(b"%d\n" % self._count)
            except (BrokenPipeError, ConnectionResetError):
                return False
        if poison >= 0:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        return size > 0


def listener(place: str, receive_buffer: int) -> socket.socket:
    host, _, port = place.rpartition(":")
    if not port.isdigit():
        Path(place).unlink(missing_ok=True)
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(place)
    else:
        listening = socket.socket()
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listening.bind((host, int(port)))
    listening.listen()
    return listening


def main(folder: Path, listening: socket.socket, behaviour: dict[str, Any]) -> None:
    selector = selectors.DefaultSelector()
    selector.register(listening, selectors.EVENT_READ)
    print("listening", flush=True)
    count = len(list(folder.iterdir()))
    ignored = []
    while True:
        for key, _ in selector.select():
            if key.data is None:
                sock, _ = listening.accept()
                connection = Connection(sock, folder / f"{count:06}", behaviour)
                count += 1
                if behaviour["reads"]:
                    selector.register(sock, selectors.EVENT_READ, connection)
                else:
                    ignored.append(connection)
            elif not key.data.read():
                selector.unregister(key.fileobj)
                key.data.socket.close()


if __name__ == "__main__":
    settings = json.loads(sys.argv[3])
    main(Path(sys.argv[1]), listener(sys.argv[2], settings["receive_buffer"]), settings)

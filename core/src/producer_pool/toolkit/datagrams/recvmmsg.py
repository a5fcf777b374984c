"""Receiving datagrams on Linux: many by one system call, for which Python has no method."""
# Rule: the kernel writes where our tables say. They are made once, and refer to memory that lives as long.

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import socket
import struct
import sys
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from typing import Final

from producer_pool.toolkit.datagrams.receiving import READS, TURN, Arrivals, OneByOne
from producer_pool.toolkit.datagrams.sockets import Ancillary, DatagramBinding

__all__ = ["ManyAtOnce"]

_MEMORY: Final = 20 * 1024 * 1024
"""Bytes, at the most, of address space for datagrams; pages of it are taken where they come to lie."""
_APART: Final = 192
"""Bytes between the rooms for two. Without them, all would share one place of the processor's cache."""
_FEW: Final = 4
"""Datagrams in a turn below which the next turn reads one by one: to prepare for many takes longer."""
_NAME: Final = 32
"""Bytes for the address of a sender; the longest one of use takes 28."""
_TRUNCATED: Final = int(socket.MSG_TRUNC)

_INET: Final = struct.Struct("!2xH4s")
_INET6: Final = struct.Struct("!2xHI16sI")
"""`struct sockaddr_in` and `struct sockaddr_in6`, ip(7) and ipv6(7)."""
_ANCILLARY: Final = struct.Struct("@Nii")
"""`struct cmsghdr`, cmsg(3)."""


class _Piece(ctypes.Structure):
    """`struct iovec`, readv(2)."""

    _fields_ = (("base", ctypes.c_void_p), ("size", ctypes.c_size_t))


class _Header(ctypes.Structure):
    """`struct msghdr`, recvmsg(2), as Linux has it."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_size", ctypes.c_uint32),
        ("pieces", ctypes.c_void_p),
        ("piece_count", ctypes.c_size_t),
        ("ancillary", ctypes.c_void_p),
        ("ancillary_size", ctypes.c_size_t),
        ("flags", ctypes.c_uint32),
    )


class _Entry(ctypes.Structure):
    """`struct mmsghdr`, recvmmsg(2)."""

    _fields_ = (("header", _Header), ("size", ctypes.c_uint32))


_recvmmsg = ctypes.CDLL(None, use_errno=True).recvmmsg
_recvmmsg.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, ctypes.c_int, ctypes.c_void_p)


class ManyAtOnce:
    """
    Makes one system call for all datagrams that wait, and none to learn that no more do.

    Beside the room for it, each has an envelope: its sender and what comes with it, as the kernel has them.
    Mostly, all that came have the same one.
    """

    def __init__(self, binding: DatagramBinding, room: int) -> None:
        """Prepare to read datagrams of up to *room* bytes."""
        self._binding = binding
        self._most = count = max(1, min(READS, _MEMORY // room))
        self._usual = room
        """Bytes of a datagram, as they came last."""
        self._one_by_one = OneByOne(binding, room)
        self._came = READS
        """Datagrams of the turn before."""
        self._starts = range(0, count * (room + _APART), room + _APART)
        self._rooms = mmap.mmap(-1, count * (room + _APART), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        self._width = width = _NAME + binding.ancillary
        self._pieces = (_Piece * count)()
        entries = (_Entry * count)()
        envelopes = (ctypes.c_char * (count * width))()
        rooms = ctypes.addressof(ctypes.c_char.from_buffer(self._rooms))
        for number, start in enumerate(self._starts):
            self._pieces[number] = _Piece(rooms + start, room)
            piece = ctypes.addressof(self._pieces[number])
            name = ctypes.addressof(envelopes) + number * width
            entries[number].header = _Header(name, _NAME, piece, 1, name + _NAME, binding.ancillary, 0)
        self._address = ctypes.addressof(entries)
        self._entries, self._envelopes = memoryview(entries).cast("B"), memoryview(envelopes).cast("B")
        self._fresh = bytes(self._entries), bytes(self._envelopes)
        self._sizes = self._column(_Entry.size.offset)
        self._flags = self._column(_Entry.header.offset + _Header.flags.offset)

    @staticmethod
    def works() -> bool:
        """Whether this process may make that system call: a sandbox may know nothing of it."""
        return _recvmmsg(-1, None, 0, 0, None) < 0 and ctypes.get_errno() == errno.EBADF

    def _column(self, offset: int) -> memoryview:
        """Return the numbers that are at *offset* in each entry."""
        numbers = self._entries.cast("I")
        return numbers[offset // numbers.itemsize :: ctypes.sizeof(_Entry) // numbers.itemsize]

    def receive(self, sock: socket.socket, arrivals: Arrivals) -> None:
        if self._came < _FEW:
            self._one_by_one.receive(sock, arrivals)
        else:
            self._receive_many(sock, arrivals)
        self._came = arrivals.datagrams

    def _receive_many(self, sock: socket.socket, arrivals: Arrivals) -> None:
        descriptor = sock.fileno()
        while not arrivals.enough:
            left = min(READS - arrivals.datagrams, (TURN - arrivals.nbytes) // max(1, self._usual))
            asked = max(1, min(self._most, left))
            # The kernel has written into them what there was, over what there may be.
            self._entries[:], self._envelopes[:] = self._fresh
            count = _recvmmsg(descriptor, self._address, asked, 0, None)
            if count < 0:
                code = ctypes.get_errno()
                if code in (errno.EAGAIN, errno.EWOULDBLOCK, errno.EINTR):
                    return
                raise OSError(code, os.strerror(code))
            self._sort(count, arrivals)
            if count < asked:
                return

    def _sort(self, count: int, arrivals: Arrivals) -> None:
        """Add the *count* datagrams that came by one call."""
        rooms, width = self._rooms, self._width
        sizes = self._sizes[:count].tolist()
        flags = self._flags[:count].tolist()
        envelopes = bytes(self._envelopes[: count * width])
        datagrams = [rooms[start : start + size] for start, size in zip(self._starts, sizes, strict=False)]
        nbytes = sum(sizes)
        self._usual = nbytes // count
        arrivals.datagrams += count
        arrivals.nbytes += nbytes
        if envelopes == envelopes[:width] * count and not any(flags):
            arrivals.add(*self._open(envelopes[:width]), datagrams)
            return
        kinds = [
            (envelopes[number * width : (number + 1) * width], flag & _TRUNCATED)
            for number, flag in enumerate(flags)
        ]
        for (envelope, cut), run in groupby(zip(kinds, datagrams, strict=True), itemgetter(0)):
            alike = [datagram for _, datagram in run]
            if cut:
                arrivals.too_long += len(alike)
            else:
                arrivals.add(*self._open(envelope), alike)

    def _open(self, envelope: bytes) -> tuple[object, int]:
        """Return who sent something, and the size of each message, if the kernel joined some, or 0."""
        peer = _sender(envelope[:_NAME])
        ancillary = _accompanying(envelope[_NAME:])
        return self._binding.accompanied(peer, ancillary) if ancillary else (peer, 0)


@lru_cache(READS)
def _sender(name: bytes) -> object:
    """Return a `struct sockaddr` in the form that Python has for it; None: it says nothing of use."""
    family = int.from_bytes(name[:2], sys.byteorder)
    if family == socket.AF_INET:
        port, address = _INET.unpack_from(name)
        return socket.inet_ntop(family, address), port
    if family == socket.AF_INET6:
        port, flow, address, scope = _INET6.unpack_from(name)
        # That one number is in the byte order of this machine.
        return socket.inet_ntop(family, address), port, flow, socket.ntohl(scope)
    return None


@lru_cache(READS)
def _accompanying(data: bytes) -> Ancillary:
    """Return ancillary *data*, behind which there are zeros, in the form of recvmsg()."""
    found = []
    at = 0
    while at + _ANCILLARY.size <= len(data):
        size, level, kind = _ANCILLARY.unpack_from(data, at)
        if size < _ANCILLARY.size:
            break
        found.append((level, kind, data[at + _ANCILLARY.size : at + size]))
        at += socket.CMSG_SPACE(size - _ANCILLARY.size)
    return found

"""Folders and files for messages: nobody but their owner may read them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from producer_pool.model.errors import StorageError
from producer_pool.storage.faults import passes

__all__ = ["private_file", "private_folder"]


def private_folder(path: str | os.PathLike[str]) -> Path:
    """
    Return the folder *path*, made with the mode 0700 if it is not there. One that is there stays as it is.

    Raises:
        StorageError: it cannot be made, or is no folder.
    """
    folder = Path(path).absolute()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError:
        raise StorageError(f"{folder} is no folder; name one that is, or one that can be made") from None
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be made: {error.strerror}; name one that can", passing=passes(error)
        ) from error
    return folder


def private_file(path: Path) -> None:
    """
    Make the file *path* with the mode 0600 if it is not there.

    Raises:
        StorageError: it cannot be written, is no plain file, or is a link: to write to whatever that leads
            to is nothing that anybody has asked for.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except OSError as error:
        raise StorageError(
            f"{path} cannot be written: {error.strerror}; see its rights, or name another folder",
            passing=passes(error),
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StorageError(f"{path} is no file; remove it, or name another folder")
    finally:
        os.close(fd)

"""Watching a folder: files opened, changed or created in it are seen, whichever code does it."""

from __future__ import annotations

import ctypes
import os
import struct
from pathlib import Path

_ACCESS, _MODIFY, _OPEN, _MOVE, _CREATE, _DELETE = 0x1, 0x2, 0x20, 0xC0, 0x100, 0x200
_IS_FOLDER = 0x40000000
_HEAD = struct.Struct("iIII")


class FolderWatch:
    """Linux's inotify on folders, not on what is below them.

    Args:
        folders: In which nothing may be opened, or made.
    """

    def __init__(self, *folders: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._handle = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert self._handle >= 0
        mask = _ACCESS | _MODIFY | _OPEN | _MOVE | _CREATE | _DELETE
        self._folders = {
            libc.inotify_add_watch(self._handle, os.fsencode(folder), ctypes.c_uint32(mask)): folder
            for folder in folders
        }

    def seen(self) -> list[str]:
        """Files that were opened, changed or created since the last call."""
        found = []
        while True:
            try:
                content = os.read(self._handle, 1 << 16)
            except BlockingIOError:
                return found
            at = 0
            while at < len(content):
                watch, mask, _, size = _HEAD.unpack_from(content, at)
                name = content[at + _HEAD.size : at + _HEAD.size + size].rstrip(b"\0").decode()
                at += _HEAD.size + size
                if not mask & _IS_FOLDER:
                    found.append(f"{self._folders.get(watch, Path())}/{name}: {mask:#x}")

    def close(self) -> None:
        """Stop watching."""
        os.close(self._handle)

"""Owner: the process that writes something that has no name yet."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process, recognisable after its number was given to another one."""

    pid: int
    """Its number."""
    start: str
    """When it began, in the system's ticks; empty where the system does not say."""
    system: str
    """The running system and the process numbers that it sees: another boot, host or container has another."""
    final: str
    """The name that its work is to have."""

    @classmethod
    def this_process(cls, final: str) -> Owner:
        """The process that asks."""
        return cls(os.getpid(), _start(os.getpid()), _system(), final)

    @classmethod
    def read(cls, path: Path) -> Owner:
        """The owner that a file names; where it is damaged, one of which nothing is known."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(found["pid"]), str(found["start"]), str(found["system"]), Path(str(found["final"])).name)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(0, "", "", "")

    def to_bytes(self) -> bytes:
        """What `read` reads."""
        return json.dumps(asdict(self)).encode()

    def may_live(self) -> bool:
        """Whether it may still write; asked only where files cannot be locked. A process elsewhere may always."""
        if self.system != _system() or not self.start:
            return True
        return _start(self.pid) == self.start


def _start(pid: int) -> str:
    """Field 22 of proc(5)'s stat; the name before it may hold spaces."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def _system() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        return ""

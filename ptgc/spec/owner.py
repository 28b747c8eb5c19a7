"""Owner: the process that is writing something under a temporary name."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Owner:
    """A process, distinguishable from a later one with the same process id."""

    pid: int
    """Its process id."""
    start: str
    """When it started, in clock ticks; empty if the system does not say."""
    system: str
    """Identifies the boot and the namespace of process ids; another boot, host or container has another value."""
    final: str
    """The final name of what it writes."""

    @classmethod
    def this_process(cls, final: str) -> Owner:
        """This process as an owner."""
        return cls(os.getpid(), _start(os.getpid()), _system(), final)

    @classmethod
    def read(cls, path: Path) -> Owner:
        """The owner that a file names; an owner without any data if the file is damaged."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            return cls(int(found["pid"]), str(found["start"]), str(found["system"]), Path(str(found["final"])).name)
        except (OSError, ValueError, KeyError, TypeError):
            return cls(0, "", "", "")

    def to_bytes(self) -> bytes:
        """The content of a file for `read`."""
        return json.dumps(asdict(self)).encode()

    def may_live(self) -> bool:
        """Whether the process may still live; only asked if files cannot be locked. A process elsewhere may always."""
        if self.system != _system() or not self.start:
            return True
        return _start(self.pid) == self.start


def _start(pid: int) -> str:
    """Start time of a process: field 22 of stat in proc(5). The process name before it may contain spaces."""
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

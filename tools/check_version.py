"""Check that package, module, C header and CMake agree on the version: `python tools/check_version.py`."""

from __future__ import annotations

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PLACES = {
    "pyproject.toml": r'^version = "([^"]+)"',
    "ptgc/__init__.py": r'^__version__ = "([^"]+)"',
    "runtime/include/ptgc.h": r'^#define PTGC_VERSION "([^"]+)"',
    "CMakeLists.txt": r"project\(\s*ptgc\s+VERSION\s+([0-9.]+)",
}


def versions() -> dict[str, str]:
    """The version by file; empty if none was found."""
    found = {}
    for name, pattern in PLACES.items():
        match = re.search(pattern, (ROOT / name).read_text(encoding="utf-8"), re.MULTILINE)
        found[name] = match.group(1) if match else ""
    return found


def main() -> int:
    """Print the versions; return 0 if they agree."""
    found = versions()
    print(*(f"{name}: {version or 'none'}" for name, version in found.items()), sep="\n")
    return 0 if len(set(found.values())) == 1 and all(found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())

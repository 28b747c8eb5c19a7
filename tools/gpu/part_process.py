"""The process of one part: `python part_process.py PART SUBJECT FIGURES SETTINGS`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from parts import PARTS
from parts.base import Figures, Settings, Skipped


def main() -> int:
    """Measure as given on the command line; return the exit status."""
    part, subject, path, settings = sys.argv[1:]
    figures = Figures(Path(path))
    try:
        with figures.attempt(subject or part):
            PARTS[part].measure(Settings(**json.loads(settings)), figures, subject)
    except Skipped as reason:
        figures.skip(str(reason))
    return 0


if __name__ == "__main__":
    sys.exit(main())

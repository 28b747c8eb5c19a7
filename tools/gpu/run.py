"""Run everything that needs a CUDA device, in one go, with one report that is rewritten after every part.

python tools/gpu/run.py --bundles bundles/gpu --output gpu.json
python tools/gpu/run.py --device cpu --small --bundles bundles/gpu --output rehearsal.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cuda_driver import require_device
from parts import PARTS
from parts.base import Settings, Skipped
from report_table import print_report
from rich.console import Console
from task import FAILED, OUT_OF_TIME, Task, run_task

from ptgc.bench.provenance import command

SCHEMA = 1
DEVICES = ("cuda", "cpu")
_BUDGET = 570.0
_WIDTH = 120


def main(arguments: Sequence[str] | None = None) -> int:
    """Run as given on the command line; return the exit status: 1 if a part failed or was not finished."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    options = parse(given)
    notes = Console(stderr=True, highlight=False)
    if options.device == "cuda":
        try:
            require_device()
        except Skipped as reason:
            notes.print(f"Error: {reason}\nA rehearsal needs no device: --device cpu --small", markup=False)
            return 1
    with tempfile.TemporaryDirectory(prefix="ptgc-gpu-work-") as work:
        bundles = str(options.bundles.absolute()) if options.bundles else None
        settings = Settings(options.device, work, bundles, options.small)
        report = measure(settings, options, command(["python", "tools/gpu/run.py"], given), notes)
    print_report(report, Console(highlight=False, width=None if sys.stdout.isatty() else _WIDTH))
    return int(any(entry["status"] in (FAILED, OUT_OF_TIME) for entry in report["parts"].values()))


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Parse the options."""
    parser = argparse.ArgumentParser(description="Run everything that needs a CUDA device.")
    parser.add_argument("--device", choices=DEVICES, default="cuda", help="cpu rehearses (default: %(default)s)")
    parser.add_argument("--bundles", type=_folder, help="folder that write_bundles.py wrote; without it no exactness")
    parser.add_argument("--output", type=_file, required=True, help="JSON file, rewritten after every part")
    parser.add_argument("--budget", type=float, default=_BUDGET, help="seconds for everything (default: %(default)g)")
    parser.add_argument("--only", type=_parts, help=f"parts, separated by commas, of: {', '.join(PARTS)}")
    parser.add_argument("--small", action="store_true", help="tiny sizes, few repeats: to see that everything runs")
    return parser.parse_args(arguments)


def measure(settings: Settings, options: argparse.Namespace, line: str, notes: Console) -> dict[str, Any]:
    """Run task by task until all are done; tasks without time left report that."""
    end = time.monotonic() + options.budget
    report: dict[str, Any] = {
        "schema": SCHEMA,
        "command": line,
        "date": datetime.now(UTC).date().isoformat(),
        "device": settings.device,
        "small": settings.small,
        "budget_seconds": options.budget,
        "machine": {},
        "parts": {},
    }
    for task in tasks(settings, options.only):
        notes.print(f"{task.name} ...", markup=False)
        now = Settings(settings.device, settings.work, settings.bundles, settings.small, report["parts"])
        entry = run_task(task, now, end - time.monotonic())
        report["parts"][task.name] = entry
        if task.part == "machine":
            facts = ("status", "seconds", "error")
            report["machine"] = {name: value for name, value in entry.items() if name not in facts}
        write_report(report, options.output)
        notes.print(f"{task.name}: {entry['status']}, {entry['seconds']:.1f} s", markup=False)
        if "error" in entry:
            notes.print(entry["error"], markup=False, soft_wrap=True)
    return report


def tasks(settings: Settings, only: Sequence[str] | None) -> list[Task]:
    """The tasks to run, the most important first."""
    first, rest = [], []
    for part in PARTS.values():
        if part.name not in only if only else settings.device == "cpu" and not part.in_rehearsal:
            continue
        found = [Task(part.name, subject) for subject in part.subjects(settings)]
        first += found[:1] if part.rest_last else found
        rest += found[1:] if part.rest_last else []
    return first + rest


def write_report(report: dict[str, Any], path: Path) -> None:
    """Replace the report by a newer one atomically."""
    aside = path.with_name(f".{path.name}.new")
    aside.write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    aside.replace(path)


def _folder(text: str) -> Path:
    path = Path(text)
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no folder {text}")
    return path


def _file(text: str) -> Path:
    path = Path(text)
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is a folder, or in none")
    return path


def _parts(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = sorted(set(names) - set(PARTS))
    if unknown or not names:
        raise argparse.ArgumentTypeError(f"{text}: choose from {', '.join(PARTS)}")
    return names


if __name__ == "__main__":
    sys.exit(main())

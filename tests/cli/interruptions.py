"""Ends commands at random moments, and looks at what they leave.

`python -m tests.cli.interruptions PLACE [KILLS] [SEED]` makes a checkpoint and a bundle in PLACE, an empty folder, and
ends every command of the program in turns: by SIGKILL, SIGINT, SIGTERM and SIGHUP, KILLS times each (40 without).
Prints what was found, one JSON line.

- After SIGKILL, the next command finds whole bundles and removes what the killed one was writing.
- After the others, nothing is left, the exit status is 128 and the signal's number, and there is no traceback.
- In either case every file is as before the command, or as after it.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ptgc.spec.bundle import open_bundle
from ptgc.spec.staging import PREFIX
from tests.bundles import ROOT
from tests.models import prompt, save, tiny_model

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
IDS = ",".join(str(token) for token in prompt(12))


@dataclass(frozen=True)
class Ended:
    """A command that was ended, or finished before that."""

    status: int
    """Exit status as in a shell, or negative if the signal itself ended the process."""
    errors: str
    """What it wrote to stderr."""


def commands(place: Path) -> dict[str, list[str]]:
    """Every command that writes or takes long, with arguments that can be run repeatedly."""
    bundle, new = str(place / "bundle"), str(place / "made" / "new")
    build = ["build", bundle, "--replace", "--max-length", "64"]
    return {
        "export": ["export", str(place / "checkpoint"), "-o", new, "--force"],
        "build": [*build, "--id", "made", "--precision", "int8"],
        "prepare": [*build, "--id", "prepared", "--stage", "prepare", "--precision", "int4"],
        "compile": ["build", bundle, "--stage", "compile", "--id", "base"],
        "auto": [*build, "--id", "auto", "--max-divergence", "10"],
        "pack": ["pack", bundle, "-o", str(place / "made" / "packed"), "--force"],
        "tune": ["tune", bundle, "--prompts", str(place / "prompts.jsonl"), "--max-new-tokens", "8", "--build", "base"],
        "bench": [
            *("bench", bundle, "--prompts", str(place / "prompts.jsonl"), "--max-new-tokens", "8", "--build", "base"),
            *("--report", str(place / "made" / "report.json")),
        ],
        "check": ["check", bundle],
        "run": ["run", bundle, "--build", "base", "--prompt-ids", IDS, "--trace", str(place / "made" / "trace")],
        "inspect": ["inspect", bundle, "--picture", str(place / "made" / "picture.png")],
    }


def prepare(place: Path) -> None:
    """The inputs of the commands."""
    save(tiny_model("llama"), place / "checkpoint")
    (place / "prompts.jsonl").write_text(json.dumps({"id": "a", "token_ids": prompt(12) * 3}) + "\n", encoding="utf-8")
    (place / "made").mkdir()
    bundle = place / "bundle"
    for arguments in (
        ["export", str(place / "checkpoint"), "-o", str(bundle)],
        ["build", str(bundle), "--id", "base", "--precision", "float32", "--max-length", "256"],
    ):
        subprocess.run([sys.executable, "-m", "ptgc", *arguments], check=True, cwd=ROOT, stderr=subprocess.DEVNULL)


def start(arguments: list[str]) -> subprocess.Popen[str]:
    """A command whose temporary files are beside its output."""
    return subprocess.Popen(
        [sys.executable, "-m", "ptgc", *arguments],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # background jobs ignore it
    )


def end(process: subprocess.Popen[str], number: signal.Signals) -> Ended:
    """Send the signal and wait."""
    process.send_signal(number)
    _, errors = process.communicate(timeout=300)
    return Ended(process.returncode, errors)


def staged(folder: Path) -> list[Path]:
    """Staging files, current or left behind, below a folder."""
    return list(folder.rglob(f"{PREFIX}*"))


def check_whole(place: Path) -> None:
    """Check that every bundle and build below is complete."""
    for manifest in place.rglob("manifest.json"):
        bundle = open_bundle(manifest.parent)
        bundle.verify()
        for build in bundle.builds():
            build.verify()


def faults(place: Path, name: str, number: signal.Signals, ended: Ended) -> list[str]:
    """The problems found after a command was ended."""
    if "init_import_site" in ended.errors or "Could not import runpy" in ended.errors:
        return []  # Python itself was still starting
    found = []
    if "Traceback" in ended.errors and ended.status != -number:
        found.append(f"traceback: {ended.errors[-400:]}")
    if number is signal.SIGKILL:
        next_one = place / "made" / "new" if name == "export" else place / "made" / "packed"
        for bundle in (place / "bundle", next_one):
            subprocess.run([sys.executable, "-m", "ptgc", "inspect", str(bundle)], cwd=ROOT, capture_output=True)
    elif ended.status not in (0, 128 + number, -number):
        found.append(f"status {ended.status}: {ended.errors[-400:]}")
    if left := staged(place):
        found.append(f"left: {', '.join(map(str, left))}")
    check_whole(place)
    return found


def main(place: Path, kills: int, seed: int) -> int:
    """Try all signals on all commands in turn."""
    chance = random.Random(seed)
    prepare(place)
    temporary = place / "tmp"  # where nobody else writes meanwhile
    temporary.mkdir()
    os.environ["TMPDIR"] = str(temporary)
    seconds = {}
    for name, arguments in commands(place).items():
        begun = time.monotonic()
        process = start(arguments)
        _, errors = process.communicate(timeout=600)
        assert process.returncode == 0, (name, errors)
        seconds[name] = time.monotonic() - begun
    counts: Counter[str] = Counter()
    wrong = []
    for number in SIGNALS:
        for turn in range(kills):
            name = list(seconds)[turn % len(seconds)]
            process = start(commands(place)[name])
            time.sleep(chance.uniform(0, seconds[name]))
            ended = end(process, number)
            counts[f"{number.name} {'before' if ended.status == -number else ended.status}"] += 1
            wrong += [f"{number.name} {name}: {fault}" for fault in faults(place, name, number, ended)]
            sys.stderr.write(f"{number.name} {turn} {name} {ended.status}\n")
    sys.stdout.write(json.dumps({"ended": counts, "faults": wrong}) + "\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    folder, *rest = sys.argv[1:]
    sys.exit(main(Path(folder), int(rest[0]) if rest else 40, int(rest[1]) if len(rest) > 1 else 0))

"""Run CUDA builds through ONNX Runtime's own CUDA provider on a machine without a GPU.

    python tools/gpu/rehearsal/rehearse.py FOLDER --onnxruntime SITE --headers DIR

FOLDER holds bundles, as folders or as the archives that tools/gpu/write_bundles.py makes.

CUDA itself is a substitute whose kernels do nothing, so the texts are meaningless. Everything that the host does is
real: which operators the provider accepts, what it copies, which calls it makes while a round is captured, and how long
the host takes for a round. A build passes if every round is captured, no call was made that cannot be captured, and
each round waits once.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from archives import bundle_names, own_bundle
from rich.console import Console
from rich.table import Table
from substitute_libraries import build_substitutes

from ptgc.compiler.build.build import BuildOptions, build
from ptgc.compiler.build.stage import Stage
from ptgc.errors import BuildError

PRECISIONS = ("float32", "float16", "bfloat16", "int8", "int4")
_COLUMNS = ("rounds", "graph_launches", "uncaptured_runs", "synchronisations", "violations", "host_microseconds")
_SUBSTITUTE = "substitute CUDA: "
_SECONDS = 300  # time limit of one build


def main(arguments: Sequence[str] | None = None) -> int:
    """Rehearse every bundle at every precision; return 1 if one failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path, help="folder of bundles")
    parser.add_argument("--onnxruntime", type=Path, required=True, help="folder that onnxruntime-gpu is installed in")
    parser.add_argument("--headers", type=Path, required=True, help="folder of CUDA 13's cuda_runtime_api.h")
    parser.add_argument("--libraries", type=Path, default=Path("build/substitute-cuda"), help="where substitutes go")
    parser.add_argument("--precisions", default=",".join(PRECISIONS))
    given = parser.parse_args(arguments)
    capi = given.onnxruntime / "onnxruntime" / "capi"
    libraries = build_substitutes(capi / "libonnxruntime_providers_cuda.so", given.headers, given.libraries)
    environment = {
        **os.environ,
        "LD_LIBRARY_PATH": str(libraries.resolve()),
        "PTGC_ONNXRUNTIME": str(next(capi.glob("libonnxruntime.so.*")).resolve()),
    }
    rows = []
    with tempfile.TemporaryDirectory(prefix="ptgc-") as work:
        for name in bundle_names(str(given.folder)):
            bundle = own_bundle(name, str(given.folder), work)
            rows += [(name, one, rehearse(bundle, one, environment)) for one in given.precisions.split(",")]
    Console(width=200).print(_table(rows))
    return int(any("error" in row for _, _, row in rows))


def rehearse(bundle: Path, precision: str, environment: dict[str, str]) -> dict[str, Any]:
    """Build the bundle and write texts with it; return the counts, or the error."""
    try:
        made = build(bundle, BuildOptions(device="cuda", precision=precision, stage=Stage.PREPARE, max_length=64))
    except BuildError as error:
        return {"error": str(error)}
    script = Path(__file__).with_name("write_texts.py")
    command = [sys.executable, str(script), str(bundle), made.manifest.id]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if run.returncode != 0:
        said = [line for line in run.stderr.splitlines() if "Error: " in line]
        return {"error": said[-1] if said else f"exit status {run.returncode}: {run.stderr[-500:]}"}
    counted: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    counted["refused"] = ", ".join(sorted({line for line in run.stderr.splitlines() if line.startswith(_SUBSTITUTE)}))
    problem = _problem(counted)
    return counted | ({"error": problem} if problem else {})


def _problem(counted: dict[str, Any]) -> str | None:
    if counted["violations"]:
        return "not to be captured: " + counted["refused"]
    if counted["uncaptured_runs"]:
        return "rounds were not captured"
    if counted["kernels_queued"] or counted["allocations"]:
        return "captured rounds queued kernels or allocated memory"
    if counted["synchronisations"] != counted["rounds"]:
        return "rounds waited more than once"
    return None


def _table(rows: Sequence[tuple[str, str, dict[str, Any]]]) -> Table:
    table = Table(title="over substitutes of CUDA's libraries: what the host does, none of what a GPU computes")
    for heading in ("bundle", "precision", *(column.replace("_", " ") for column in _COLUMNS), "error"):
        table.add_column(heading, overflow="fold")
    for bundle, precision, row in rows:
        cells = [
            f"{row[column]:.1f}" if column.startswith("host") else str(row[column])
            for column in _COLUMNS
            if column in row
        ]
        cells += [""] * (len(_COLUMNS) - len(cells))
        table.add_row(bundle, precision, *cells, row.get("error", ""))
    return table


if __name__ == "__main__":
    raise SystemExit(main())

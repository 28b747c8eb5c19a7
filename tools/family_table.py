"""Export a tiny model of every causal LM class of transformers, compare it with PyTorch, and write the table.

python tools/family_table.py --write docs/support.md            all of them, about 15 minutes on two cores
python tools/family_table.py llama gemma2                       some of them, to stdout
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- families: begin -->", "<!-- families: end -->"
_TOLERANCE = 2e-3  # relative to the logits
_LENGTHS = (16, 9, 1, 14)  # rows of each round in which a text is read
_SECONDS = 240  # for one model
_TOGETHER = 12  # models in one process


@dataclass(frozen=True)
class Verdict:
    """The result for one class."""

    model_type: str
    """transformers' name of the family."""
    verdict: str
    """exact, refused, wrong, or unavailable: transformers itself cannot make or run a small one here."""
    remark: str
    """What prevents the export, or what is special."""


def judge(model_type: str, *, graphs: bool = True) -> Verdict:
    """Export one tiny model and compare it with PyTorch.

    Args:
        model_type: transformers' name of the family.
        graphs: Whether to trace the graph and run it, canonical and prepared; otherwise the model is only rehearsed.
    """
    from ptgc.errors import ExportError
    from ptgc.exporters.roles.target import Verify
    from ptgc.exporters.tracing.probe import probe_layers
    from ptgc.exporters.tracing.rehearsal import rehearse
    from ptgc.spec.attention import AttentionKind

    try:
        model = _model(model_type)
    except Exception as error:  # noqa: BLE001  # a configuration without its checkpoint's values may raise anything
        return Verdict(model_type, "unavailable", _line(error))
    try:
        layers = probe_layers(model)
        rehearse(Verify(model, layers).eval(), model, layers, AttentionKind.TREE)
        error = _largest_error(model) if graphs else 0.0
    except ExportError as refusal:
        return Verdict(model_type, "refused", refusal.message.partition("cannot be exported: ")[2].rstrip("."))
    if error > _TOLERANCE:
        return Verdict(model_type, "wrong", f"logits differ by {error:.2g} of their size")
    windows = sorted({layer.window for layer in layers if layer.window is not None})
    return Verdict(model_type, "exact", "sliding windows" if windows else "")


def _model(model_type: str) -> Any:
    import torch
    from tiny_causal_models import tiny_causal_model

    model = tiny_causal_model(model_type)
    with torch.no_grad():
        model(input_ids=torch.arange(8)[None], use_cache=False)
    return model


def _largest_error(model: Any) -> float:
    """Largest error of the canonical graph and of the one prepared for the CPU, relative to the logits."""
    import numpy as np
    import onnx_ir as ir
    import torch

    from ptgc.compiler.backends.base import Preparation
    from ptgc.compiler.backends.onnxruntime import OnnxRuntimeBackend
    from ptgc.compiler.graph_session import GraphSession
    from ptgc.exporters.roles.target import trace_target
    from ptgc.graphs.storage import save
    from ptgc.spec.shapes import RoleShapes
    from ptgc.spec.strategies.ngram import ngram

    ids = torch.randint(3, 128, (sum(_LENGTHS),), generator=torch.Generator().manual_seed(3)).tolist()
    with torch.no_grad():
        expected = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0].numpy()
    traced = trace_target(model)
    role = traced.role("target.onnx")
    errors = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save(traced.model, folder, "target")
        shapes = RoleShapes((1, 2, 4, 8, 16), 16, (96,))
        made = OnnxRuntimeBackend().prepare(
            ir.load(folder / "target.onnx"), role, Preparation(ngram(), shapes, "float32")
        )
        save(made.model, folder, "prepared")
        for graph, ports in (("target", role), ("prepared", made.role)):
            session = GraphSession(folder / f"{graph}.onnx", ports, 96, num_threads=1)
            found = []
            for count in _LENGTHS:
                found.append(session.forward(ids[session.length : session.length + count]))
                session.commit(count)
            difference = np.linalg.norm(np.concatenate(found) - expected, axis=-1)
            errors.append(float((difference / np.linalg.norm(expected, axis=-1)).max()))
    return max(errors)


def _line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]


def _in_own_process(model_types: list[str]) -> list[Verdict]:
    """Judge some classes in a separate process, which contains crashes and leaks."""
    found: list[Verdict] = []
    while len(found) < len(model_types):
        left = model_types[len(found) :]
        command = [sys.executable, __file__, "--judge", *left]
        try:
            run = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS * len(left), check=False)
            output, reason = run.stdout, (run.stderr.strip().splitlines() or [f"exit status {run.returncode}"])[-1]
        except subprocess.TimeoutExpired as error:
            output, reason = (error.stdout or b"").decode(), "no verdict in time"
        made = [Verdict(**json.loads(line)) for line in output.splitlines() if line.startswith("{")]
        if len(made) < len(left):
            made.append(Verdict(left[len(made)], "wrong", reason[:200]))
        for verdict in made:
            print(verdict.model_type, verdict.verdict, verdict.remark, file=sys.stderr, flush=True)
        found += made
    return found


def table(verdicts: list[Verdict]) -> str:
    """The verdicts as Markdown: the exact ones first."""
    order = ("wrong", "exact", "refused", "unavailable")
    counts = ", ".join(f"{sum(v.verdict == name for v in verdicts)} {name}" for name in order)
    rows = sorted(verdicts, key=lambda v: (order.index(v.verdict), v.model_type))
    lines = [f"Of {len(verdicts)} causal LM classes: {counts}.", "", "| family | verdict | remarks |", "|---|---|---|"]
    lines += [f"| {row.model_type} | {row.verdict} | {row.remark.replace('|', '/')} |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_types", nargs="*", help="families (default: all)")
    parser.add_argument("--write", type=Path, help="file whose table is replaced")
    parser.add_argument("--jobs", type=int, default=2, help="processes at a time")
    parser.add_argument("--judge", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.judge:
        _judge_here(given.model_types)
        return
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    names = given.model_types or list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
    chunks = [names[start : start + _TOGETHER] for start in range(0, len(names), _TOGETHER)]
    with ThreadPoolExecutor(given.jobs) as pool:
        found = table([verdict for part in pool.map(_in_own_process, chunks) for verdict in part])
    if given.write is None:
        print(found)
        return
    text = given.write.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    given.write.write_text(f"{before}{BEGIN}\n{found}\n{END}{after}", encoding="utf-8")


def _judge_here(model_types: list[str]) -> None:
    """Print one verdict per line."""
    warnings.simplefilter("ignore")
    import torch

    torch.set_num_threads(1)
    for model_type in model_types:
        print(json.dumps(asdict(judge(model_type))), flush=True)


if __name__ == "__main__":
    main()

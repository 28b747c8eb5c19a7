"""A bundle with one toy build: an attention layer over the contract's ports, in float32."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx_ir as ir

from ptgc.graphs.attention_mask import AttentionMask, CacheSlots, RoundPorts, capacity
from ptgc.graphs.piece import Piece
from ptgc.graphs.selection import argmax
from ptgc.spec import ports
from ptgc.spec.attention import AttentionKind
from ptgc.spec.build_manifest import BuildManifest
from ptgc.spec.kv_cache import LayerState, StateKind
from ptgc.spec.manifest import FileEntry, Manifest, dumps
from ptgc.spec.model_facts import ModelFacts
from ptgc.spec.plan import DecodePlan
from ptgc.spec.ports import DType, Port
from ptgc.spec.role import Role
from ptgc.spec.shapes import ShapePlan

VOCAB = 24
CONTEXT = 96
HEADS = 2
HEAD_DIM = 8
WIDTH = HEADS * HEAD_DIM
STATE = LayerState(StateKind.FULL, HEADS, HEAD_DIM, DType.FLOAT32)
_DTYPES = {
    DType.FLOAT32: ir.DataType.FLOAT,
    DType.INT64: ir.DataType.INT64,
    DType.BOOL: ir.DataType.BOOL,
}


@dataclass(frozen=True)
class Weights:
    """Random weights."""

    embedding: np.ndarray  # [vocab, width]
    position: np.ndarray  # [context, width]
    projections: np.ndarray  # [3, width, width], query, key and value
    head: np.ndarray  # [width, vocab]

    @staticmethod
    def random(seed: int = 0) -> Weights:
        """The weights of a seed."""
        draw = np.random.default_rng(seed).standard_normal
        shapes = {
            "embedding": (VOCAB, WIDTH),
            "position": (CONTEXT, WIDTH),
            "projections": (3, WIDTH, WIDTH),
            "head": (WIDTH, VOCAB),
        }
        made = {name: draw(shape).astype(np.float32) for name, shape in shapes.items()}
        made["position"] *= 0.3
        return Weights(**made)

    def continuation(self, prompt: list[int], count: int) -> list[int]:
        """Greedy decoding in numpy, without a cache."""
        text = list(prompt)
        for _ in range(count):
            hidden = self.embedding[text] + self.position[: len(text)]
            query, key, value = (hidden @ p for p in self.projections)
            heads = [
                _attend(query[-1, part], key[:, part], value[:, part])
                for part in (slice(h * HEAD_DIM, (h + 1) * HEAD_DIM) for h in range(HEADS))
            ]
            text.append(int(np.argmax((hidden[-1] + np.concatenate(heads)) @ self.head)))
        return text[len(prompt) :]


def _attend(query: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    scores = keys @ query / np.sqrt(HEAD_DIM)
    chances = np.exp(scores - scores.max())
    return chances / chances.sum() @ values


def write_toy_build(bundle: Path, plan: DecodePlan, shapes: ShapePlan) -> Path:
    """Writes the bundle's manifest and one build of it; gives the build's folder."""
    build = bundle / "builds" / "toy"
    build.mkdir(parents=True)
    ir.save(toy_model(Weights.random()), build / "target.onnx")
    entry = FileEntry("target.onnx", (build / "target.onnx").stat().st_size, "")
    kind = AttentionKind.CAUSAL if plan.tree.is_chain else AttentionKind.TREE
    role = Role("target.onnx", ports.CAUSAL_INPUTS, (ports.NEXT_IDS,), (STATE,), attention=kind)
    facts = ModelFacts("toy", VOCAB, CONTEXT, eos_token_ids=(2,))
    manifest = Manifest(plan, facts, {"target": replace(role, graph="graphs/target.onnx")}, ())
    made = BuildManifest("toy", "onnxruntime", "cpu", {"target": "float32"}, shapes, {"target": role}, (entry,), "")
    (bundle / "manifest.json").write_text(dumps(manifest.to_json()))
    (build / "build.json").write_text(dumps(made.to_json()))
    return build


def toy_model(weights: Weights) -> ir.Model:
    """Embedding, one attention layer with a cache in place, argmax."""
    past = STATE.past_ports(0)
    inputs = {port.name: _value(port) for port in (*ports.CAUSAL_INPUTS, *past)}
    piece = Piece("toy")
    op, constant = piece.op, piece.constant
    write_index = inputs["write_index"]
    keys, values = (inputs[port.name] for port in past)
    names = ("tree_mask", "mask_start", "write_index", "row_count", "position_ids")
    mask = AttentionMask(piece, RoundPorts(*(inputs[name] for name in names))).full(CacheSlots(capacity(piece, keys)))
    embedded = op("Gather", constant(weights.embedding), inputs["input_ids"])
    hidden = op("Add", embedded, op("Gather", constant(weights.position), inputs["position_ids"]))

    def heads(projection: np.ndarray) -> ir.Value:
        split = op("Reshape", op("MatMul", hidden, constant(projection)), constant([0, 0, HEADS, HEAD_DIM]))
        return op("Transpose", split, perm=[0, 2, 1, 3])

    query, key, value = (heads(projection) for projection in weights.projections)
    present = [
        op("TensorScatter", old, new, write_index, axis=-2, mode="linear")
        for old, new in ((keys, key), (values, value))
    ]
    attended = op("Transpose", op("Attention", query, *present, mask), perm=[0, 2, 1, 3])
    hidden_out = op("Add", hidden, op("Reshape", attended, constant([0, 0, WIDTH])))
    rows = op("Unsqueeze", inputs["logits_rows"], constant([-1]))
    chosen = op("GatherND", hidden_out, rows, batch_dims=1)
    next_ids = argmax(piece, op("MatMul", chosen, constant(weights.head)))
    outputs = [
        _named(value, port)
        for value, port in zip((next_ids, *present), (ports.NEXT_IDS, *STATE.present_ports(0)), strict=True)
    ]
    graph = ir.Graph(list(inputs.values()), outputs, nodes=piece.nodes, opset_imports={"": ports.OPSET}, name="toy")
    return ir.Model(graph, ir_version=ports.IR_VERSION)


def _value(port: Port) -> ir.Value:
    return ir.Value(name=port.name, type=ir.TensorType(_DTYPES[port.dtype]), shape=ir.Shape(port.shape))


def _named(value: ir.Value, port: Port) -> ir.Value:
    value.name = port.name
    value.type = ir.TensorType(_DTYPES[port.dtype])
    value.shape = ir.Shape(port.shape)
    return value

"""A checkpoint to OpenVINO's format: OpenVINO GenAI reads it as GGUF, and NNCF compresses the weights."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from ptgc.bench.converters.llama_gguf import read_weights, write_gguf
from ptgc.bench.engines.openvino_engine import without_telemetry
from ptgc.spec.staging import scratch_directory

GROUP_SIZE = 64
"""Weights of an int4 group. NNCF's default of 128 divides the widths of fewer models."""

_MODEL = "openvino_model.xml"


def convert(model: Path, precision: str, output: Path) -> None:
    """Write model and tokenizer into the output folder.

    Raises:
        CheckpointError: The model is no Llama.
    """
    without_telemetry()
    openvino: Any = import_module("openvino")
    _convert_tokenizer(openvino, model, output)
    with scratch_directory() as scratch:
        write_gguf(model, scratch / "model.gguf", np.float16)  # the only float weights that OpenVINO GenAI reads
        genai: Any = import_module("openvino_genai")
        genai.LLMPipeline(scratch / "model.gguf", genai.Tokenizer(output), "CPU", enable_save_ov_model=True)
        read = openvino.Core().read_model(scratch / _MODEL)
        _restore_float32(openvino, read, model)
        openvino.save_model(_compressed(read, precision), output / _MODEL, compress_to_fp16=False)


def _convert_tokenizer(openvino: Any, model: Path, output: Path) -> None:
    """Write the tokenizer, without which drafts of another model are refused."""
    from transformers import AutoTokenizer

    tokenizers: Any = import_module("openvino_tokenizers")
    tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
    encode, decode = tokenizers.convert_tokenizer(tokenizer, with_detokenizer=True)
    openvino.save_model(encode, output / "openvino_tokenizer.xml")
    openvino.save_model(decode, output / "openvino_detokenizer.xml")


def _restore_float32(openvino: Any, read: Any, model: Path) -> None:
    """Put the checkpoint's float32 weights in the place of their float16 copies."""
    halves = {
        node.get_friendly_name().replace("layers[", "layers.").replace("].", "."): node
        for node in read.get_ordered_ops()
        if node.get_type_name() == "Constant" and node.get_output_element_type(0) == openvino.Type.f16
    }
    for name, weight in read_weights(model):
        if name in halves:
            (consumer,) = halves[name].output(0).get_target_inputs()  # the conversion to float32
            constant = openvino.opset13.constant(weight)
            constant.set_friendly_name(name)
            consumer.get_node().output(0).replace(constant.output(0))


def _compressed(read: Any, precision: str) -> Any:
    """The model with weights at a precision; embedding and head stay at int8 in an int4 model, as NNCF advises."""
    if precision == "float32":
        return read
    nncf: Any = import_module("nncf")
    if precision == "int8":
        return nncf.compress_weights(read, mode=nncf.CompressWeightsMode.INT8_ASYM)
    parameters = nncf.AdvancedCompressionParameters(group_size_fallback_mode=nncf.GroupSizeFallbackMode.ADJUST)
    return nncf.compress_weights(
        read, mode=nncf.CompressWeightsMode.INT4_ASYM, group_size=GROUP_SIZE, advanced_parameters=parameters
    )

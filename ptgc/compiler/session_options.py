"""Options for loading graphs into ONNX Runtime to check them as the ONNX standard defines them."""

from __future__ import annotations

from typing import Any

from ptgc.errors import BackendError

_FLOAT8_MOVES_SINCE = 21  # the first opset whose Transpose and Reshape take 8-bit floats


def session_options(model: str | bytes) -> Any:
    """Options of a session that logs nothing.

    In graphs of older opsets, ONNX Runtime is told not to move QuantizeLinear: 1.31.1 would move it in front of a
    Transpose, which takes no 8-bit floats there, and then refuse its own graph. If ONNX's Python packages are missing,
    the opset is assumed to be recent.

    Args:
        model: Path of an ONNX file, or a serialised model.

    Raises:
        BackendError: It is neither, or ONNX Runtime is missing or too old.
    """
    try:
        import onnx

        from ptgc.compiler.backends.onnxruntime_package import onnxruntime_version
    except ImportError:
        return _quiet()
    onnxruntime_version()
    options = _quiet()
    try:
        proto = onnx.load_from_string(model) if isinstance(model, bytes) else onnx.load(model, load_external_data=False)
    except Exception as error:  # protobuf's own
        raise BackendError(f"{model if isinstance(model, str) else 'This'} is no ONNX graph: {error}") from error
    if any(not known.domain and known.version < _FLOAT8_MOVES_SINCE for known in proto.opset_import):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    if any(known.domain == "ptgc" for known in proto.opset_import):
        from ptgc.runtime.libraries import compiled_package

        options.register_custom_ops_library(str(compiled_package() / "lib" / "libptgc.so"))
    return options


def _quiet() -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return options

"""Pieces of ONNX graph and passes over them, on onnx-ir; never imports torch."""

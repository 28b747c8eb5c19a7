"""ptgc: compile parallel text generators into standard ONNX graphs and engines, and run them."""

__version__ = "0.1.0"

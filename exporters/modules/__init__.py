"""PyTorch modules that transformers lacks."""

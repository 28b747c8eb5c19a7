"""How a PyTorch model becomes a standard graph."""

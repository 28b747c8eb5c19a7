"""What the PyTorch original writes, and how near an export comes to it."""

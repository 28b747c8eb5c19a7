"""Exporters of strategies: which checkpoints fit a strategy, and the modules made from them."""

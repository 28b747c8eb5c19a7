"""Precisions of weights, how weights are rounded, and what is lost by it."""

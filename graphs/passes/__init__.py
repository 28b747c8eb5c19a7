"""Passes for graphs of any backend."""

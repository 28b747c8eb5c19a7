"""Quantisation: formats, how matrices are rounded to them, and statistics of a text that guide it."""

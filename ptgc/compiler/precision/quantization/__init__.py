"""Weight-only quantisation: formats, how matrices are rounded to them, and what text tells about a matrix."""

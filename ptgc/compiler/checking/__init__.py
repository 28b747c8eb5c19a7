"""The stages of `ptgc check`: weights, graphs, engines."""

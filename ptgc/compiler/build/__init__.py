"""Bundle to build: prepared graphs, and engines compiled of them."""

"""Bundle to builds: prepare (lower, quantise) and compile; runs without torch."""

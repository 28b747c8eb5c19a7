"""Which checkpoints each strategy reads, and the modules that they become; a strategy names its exporter."""

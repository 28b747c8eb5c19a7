"""One file per engine; a worker process holds one engine."""

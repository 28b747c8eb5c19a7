"""Pure data that exporter, compiler and runtime share; standard library only."""

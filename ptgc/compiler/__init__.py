"""Turns bundles into builds: prepares (lowers, quantises) and compiles graphs, without torch."""

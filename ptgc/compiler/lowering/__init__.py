"""Passes from the standard graph to the form that one backend runs best; one per file."""

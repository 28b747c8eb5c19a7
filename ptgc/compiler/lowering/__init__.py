"""From the standard graph to what one backend runs best; one pass a file."""

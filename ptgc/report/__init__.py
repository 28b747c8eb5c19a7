"""Self-contained HTML pages about texts: what happened in which round."""

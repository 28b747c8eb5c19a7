"""Reading checkpoints: configurations, weights and tokenizers of every supported format, never unpickling."""

"""Converters: a Hugging Face checkpoint to the files that a peer reads."""

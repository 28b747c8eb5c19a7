"""`ptgc bench`: compares a bundle's strategy with plain decoding and with other engines, in one run."""

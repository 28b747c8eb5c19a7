"""`ptgc bench`: a bundle's strategy beside plain decoding and beside other engines, on the same prompts in one run."""

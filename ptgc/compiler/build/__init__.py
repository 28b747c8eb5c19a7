"""Makes builds of bundles: prepared graphs, and engines compiled from them."""

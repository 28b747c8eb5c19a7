"""What rounds cost on a device, and what pays there."""

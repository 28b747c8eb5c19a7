"""What rounds cost on a device, and which settings are fastest there."""

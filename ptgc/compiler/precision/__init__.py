"""How weights are rounded, and what that costs."""

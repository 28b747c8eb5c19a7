"""Exporters of roles, shared by the strategies."""

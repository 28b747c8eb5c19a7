"""Passes that any graph may go through, whatever backend it is for."""

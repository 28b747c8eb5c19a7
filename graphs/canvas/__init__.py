"""Filling the masked positions of a canvas: pieces of graph, their numpy meaning, schedules and random numbers."""

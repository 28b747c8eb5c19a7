"""Texts from files, as a bundle's tokens: prompts to measure with, and samples to quantise and judge with."""

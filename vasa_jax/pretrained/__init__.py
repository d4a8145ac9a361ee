"""Weights and media that ship with the package."""

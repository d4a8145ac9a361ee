"""Fixtures of the preparation tests."""

from drawn_videos import folder

__all__ = ["folder"]

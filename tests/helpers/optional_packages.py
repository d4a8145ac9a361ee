"""Tests that need a package of an extra."""

import importlib.util

import pytest


def needs(module: str) -> pytest.MarkDecorator:
    """Returns the mark of a test that is left out where a module is not installed."""
    return pytest.mark.skipif(importlib.util.find_spec(module) is None, reason=f"needs {module}")

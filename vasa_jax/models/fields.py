"""Fields of networks as they come back from JSON."""

from collections.abc import Mapping
from typing import Any

from flax.core import FrozenDict


def frozen(value: Any) -> Any:
    """Makes fields hashable: lists become tuples, mappings frozen dicts."""
    if isinstance(value, Mapping):
        return FrozenDict({key: frozen(item) for key, item in value.items()})
    return tuple(frozen(item) for item in value) if isinstance(value, (list, tuple)) else value

"""Whoever waits for a video sees its parts pass, stage by stage, and may end it between two of them."""

from collections.abc import Callable, Iterator
from typing import Any

Watch = Callable[[Iterator[Any], int], Iterator[Any]]  # sees parts pass, so many (0 = not known yet)


def unwatched(parts: Iterator[Any], count: int) -> Iterator[Any]:
    """Returns the parts: the `Watch` of what nobody waits for."""
    return parts

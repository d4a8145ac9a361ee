"""What JSON from a file must look like, said once and checked by one function.

    SHARD = {"split": Text(choices=SPLITS), "index": Whole(0, 10**6), "clips": Each({"frames": Whole(1, 10**8)})}
    check(content, SHARD, "manifest.json", "write it again")

A dict stands for an object with exactly these names.
"""

import dataclasses
from collections.abc import Collection
from typing import Any

from vasa_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Whole:
    """A whole number in [low, high]; True and False are none."""

    low: int
    high: int

    def fault(self, value: Any) -> str:
        """Returns what is wanted instead of a value, or nothing."""
        good = type(value) is int and self.low <= value <= self.high
        return "" if good else f"a whole number from {self.low} to {self.high}"


@dataclasses.dataclass(frozen=True)
class Real:
    """A finite number in [low, high]."""

    low: float
    high: float

    def fault(self, value: Any) -> str:
        """Returns what is wanted instead of a value, or nothing."""
        good = type(value) in (int, float) and self.low <= value <= self.high
        return "" if good else f"a number from {self.low:g} to {self.high:g}"


@dataclasses.dataclass(frozen=True)
class Flag:
    """True or False."""

    def fault(self, value: Any) -> str:
        """Returns what is wanted instead of a value, or nothing."""
        return "" if isinstance(value, bool) else "true or false"


@dataclasses.dataclass(frozen=True)
class Text:
    """A text of `least` to `longest` characters that UTF-8 can hold, of these characters, or one of `choices`."""

    least: int = 1
    longest: int = 1000
    choices: Collection[str] | None = None
    alphabet: str = ""

    def fault(self, value: Any) -> str:
        """Returns what is wanted instead of a value, or nothing."""
        if self.choices is not None:
            good = isinstance(value, str) and value in self.choices
            return "" if good else f"one of {', '.join(self.choices)}"
        good = isinstance(value, str) and self.least <= len(value) <= self.longest and _is_unicode(value)
        good = good and (not self.alphabet or set(value) <= set(self.alphabet))
        return "" if good else f"a text of {self.least} to {self.longest} characters"


@dataclasses.dataclass(frozen=True)
class FileName:
    """The name of a file in the same folder: no path."""

    def fault(self, value: Any) -> str:
        """Returns what is wanted instead of a value, or nothing."""
        good = isinstance(value, str) and 0 < len(value) <= 255 and value not in (".", "..") and _is_unicode(value)
        return "" if good and not set(value) & set("/\\:\0") else "the name of a file in this folder"


@dataclasses.dataclass(frozen=True)
class Each:
    """A list of `least` to `longest` values of one kind."""

    of: Any
    least: int = 0
    longest: int = 10**8


@dataclasses.dataclass(frozen=True)
class Named:
    """An object whose names are free, or among `choices`, and whose values are of one kind (None: any)."""

    of: Any = None
    least: int = 0
    choices: Collection[str] | None = None


@dataclasses.dataclass(frozen=True)
class Maybe:
    """A value of this kind, or null."""

    of: Any


@dataclasses.dataclass(frozen=True)
class With:
    """An object that has these names, and others whose values are of the kind `rest`."""

    names: dict[str, Any]
    rest: Any


def check(value: Any, schema: Any, where: str, remedy: str) -> Any:
    """Returns `value`, which JSON gave; InputError, `where` first and `remedy` last, names the first fault."""
    fault = _fault(value, schema)
    if fault is not None:
        path, text = fault
        raise InputError(f"{where}: {path.removeprefix('.') or 'it'} {text}; {remedy}")
    return value


def _fault(value: Any, schema: Any) -> tuple[str, str] | None:
    """(where in the value, what is wrong) of its first fault."""
    if isinstance(schema, Maybe):
        return None if value is None else _fault(value, schema.of)
    if isinstance(schema, Each):
        if not isinstance(value, list) or not schema.least <= len(value) <= schema.longest:
            return "", _instead(value, f"a list of {schema.least} or more")
        for index, item in enumerate(value):
            if (inside := _fault(item, schema.of)) is not None:
                return f"[{index}]{inside[0]}", inside[1]
        return None
    if isinstance(schema, (dict, Named, With)):
        return _fault_of_object(value, schema)
    if schema is not None and (wanted := schema.fault(value)):
        return "", _instead(value, wanted)
    return None


def _fault_of_object(value: Any, schema: Any) -> tuple[str, str] | None:
    if not isinstance(value, dict):
        return "", _instead(value, "an object")
    wanted = schema.names if isinstance(schema, With) else schema if isinstance(schema, dict) else {}
    if isinstance(schema, Named):
        if len(value) < schema.least:
            return "", "is empty"
        known = value if schema.choices is None else schema.choices
    else:
        known = value if isinstance(schema, With) else schema
    for key in wanted:
        if key not in value:
            return f".{key}", "is missing"
    rest = None if isinstance(schema, dict) else schema.of if isinstance(schema, Named) else schema.rest
    for key, item in value.items():
        if key not in known:
            return f".{key}", "is unknown"
        if (inside := _fault(item, wanted.get(key, rest))) is not None:
            return f".{key}{inside[0]}", inside[1]
    return None


def _instead(value: Any, wanted: str) -> str:
    shown = repr(value) if isinstance(value, (str, int, float)) else f"a {_KINDS.get(type(value), 'value')}"
    return f"is {shown if len(shown) <= 60 else shown[:40] + '...'}, not {wanted}"


_KINDS = {dict: "object", list: "list", type(None): "null value"}


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= char <= "\udfff" for char in text)

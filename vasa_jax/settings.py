"""Typed settings: dataclasses whose fields state default, range or choices, unit and meaning.

    @section
    class TrainConfig(Settings):
        steps: int = number(1000, 1, 10**9, "updates", "length of the run")
        precision: str = choice("auto", ("auto", "float32"), "type of the computation")

A field is a bool, int, float, str, a tuple of these, a `Series`, another section, or one of them or None. Settings go
to a `ConfigDict`, whose fields a command line can set, and back. Every fault is an InputError of one line that begins
with the dotted name of the field.
"""

import dataclasses
import difflib
import functools
import numbers
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, TypeVar, Union

import ml_collections
import numpy as np
from absl import logging
from ml_collections import config_dict

from vasa_jax.errors import InputError

LONGEST_VALUE = 100  # characters of a value in a message
MAX_SEED = 2**32 - 1  # what NumPy's and JAX's generators both take

T = TypeVar("T")
S = TypeVar("S", bound="Settings")
Series = Union[T, Sequence[T], np.ndarray]  # noqa: UP007 - X | Y cannot be subscripted; a constant or one per frame
_NAMES = {bool: "True or False", int: "a whole number", float: "a number", str: "a text"}


def field(
    default: Any,
    *,
    low: float | None = None,
    high: float | None = None,
    choices: Collection[str] | None = None,
    unit: str = "",
    help: str = "",
    unset: str = "",
    was: str = "",
    least: int = 0,
    distinct: bool = False,
) -> Any:
    """Declares a field of a section.

    Args:
      default: its value where none is given.
      low, high: of a number, or of each number of a tuple or series; both ends are allowed.
      choices: of a text, or of each text of a tuple.
      unit, help: for people; unset: what None means, where that needs to be told.
      was: its old name, which is accepted with a warning.
      least: how many values a tuple has at least.
      distinct: whether a tuple names each value once.
    """
    given = {"low": low, "high": high, "choices": choices, "unit": unit, "help": help}
    given |= {"unset": unset, "was": was, "least": least, "distinct": distinct}
    return dataclasses.field(default=default, metadata=given)


def number(default: Any, low: float, high: float, unit: str, help: str, **rest: Any) -> Any:
    """Declares a number in [low, high], or a tuple or series of them; `rest` as for `field`."""
    return field(default, low=low, high=high, unit=unit, help=help, **rest)


def choice(default: Any, choices: Collection[str], help: str, **rest: Any) -> Any:
    """Declares a text that is one of `choices`, or a tuple of them; `rest` as for `field`."""
    return field(default, choices=choices, help=help, **rest)


def text(default: Any, help: str, **rest: Any) -> Any:
    """Declares a free text, such as a file's name, or a tuple of them; `rest` as for `field`."""
    return field(default, help=help, **rest)


def flag(default: bool, help: str, **rest: Any) -> Any:
    """Declares a field that is True or False; `rest` as for `field`."""
    return field(default, help=help, **rest)


def part(default: "Settings", **rest: Any) -> Any:
    """Declares a section within a section; `rest` as for `field`."""
    return field(default, help=type(default).__doc__ or "", **rest)


@dataclasses.dataclass(frozen=True)
class Field:
    """A declared field with what its annotation says."""

    name: str
    default: Any
    kind: type  # bool, int, float, str, or a subclass of Settings: of the value, or of each of a tuple's
    is_tuple: bool
    length: int | None  # of the tuple; None = any
    optional: bool  # None is a value too
    series: bool  # a constant, or a sequence of such
    low: float | None
    high: float | None
    choices: Collection[str] | None
    unit: str
    help: str
    unset: str
    was: str
    least: int
    distinct: bool

    @property
    def remedy(self) -> str:
        """The end of a line about a bad value."""
        if self.choices is not None:
            return f"choose one of {', '.join(name or repr(name) for name in self.choices)}"
        return f"give {_NAMES[self.kind]}" if self.low is None else f"choose {self.low} to {self.high}"


@typing.dataclass_transform(frozen_default=True, field_specifiers=(field, number, choice, text, flag, part))
def section(cls: type | None = None, *, eq: bool = True) -> Any:
    """Makes a frozen dataclass of a subclass of `Settings`, whose constructor also takes old names of fields."""
    if cls is None:
        return functools.partial(section, eq=eq)
    cls = dataclasses.dataclass(frozen=True, eq=eq)(cls)
    undeclared = [item.name for item in dataclasses.fields(cls) if "was" not in item.metadata]
    if undeclared:
        raise TypeError(f"{cls.__name__}: declare {', '.join(undeclared)} with number, choice, text, flag or part")
    current = {item.metadata["was"]: item.name for item in dataclasses.fields(cls) if item.metadata["was"]}
    if current:
        plain = cls.__init__

        @functools.wraps(plain)
        def init(self, *values, **given):
            for old in current.keys() & given.keys():
                _warn_of(f"{cls.__name__}.{old}", current[old])
                given[current[old]] = given.pop(old)
            plain(self, *values, **given)

        cls.__init__ = init
    return cls


class Settings:
    """Base of all sections."""

    def check_together(self, path: str) -> None:
        """Raises InputError where fields contradict each other; `path` is the section's own name."""

    def validate(self: S, path: str = "config") -> S:
        """Returns the settings themselves; InputError names the first field that is of no use."""
        for item in fields_of(type(self)).values():
            _check(item, getattr(self, item.name), f"{path}.{item.name}")
        self.check_together(path)
        return self

    def to_config_dict(self) -> ml_collections.ConfigDict:
        """Returns the same settings as a `ConfigDict`."""
        result = ml_collections.ConfigDict()
        for item in fields_of(type(self)).values():
            value = getattr(self, item.name)
            if isinstance(value, Settings):
                result[item.name] = value.to_config_dict()
                continue
            if item.optional:
                result[item.name] = config_dict.placeholder(tuple if item.is_tuple else item.kind)
            if value is not None or not item.optional:
                result[item.name] = value
        return result

    @classmethod
    def from_config_dict(cls: type[S], config: ml_collections.ConfigDict, path: str = "config") -> S:
        """Returns the validated settings of a `ConfigDict`; InputError names an unknown key or a bad value."""
        return _built(cls, config, path).validate(path)


@functools.cache
def fields_of(cls: type[Settings]) -> Mapping[str, Field]:
    """Returns the fields of a section, name to declaration."""
    hints, result = typing.get_type_hints(cls), {}
    for item in dataclasses.fields(cls):
        hint = hints[item.name]
        union = typing.get_origin(hint) in (Union, types.UnionType)
        options = [option for option in typing.get_args(hint) if option is not type(None)] if union else [hint]
        inside = typing.get_args(options[0])
        result[item.name] = Field(
            name=item.name,
            default=item.default,
            kind=inside[0] if inside else options[0],
            is_tuple=bool(inside),
            length=None if Ellipsis in inside else len(inside),
            optional=union and type(None) in typing.get_args(hint),
            series=len(options) > 1,
            **item.metadata,
        )
        if result[item.name].kind in (int, float) and None in (item.metadata["low"], item.metadata["high"]):
            raise TypeError(f"{cls.__name__}.{item.name}: a number needs a range; declare it with number")
    return types.MappingProxyType(result)


def part_of(cls: type[S], config: "Settings") -> S:
    """Returns the fields of `cls` among those of a config that inherits them; not checked."""
    return cls(**{name: getattr(config, name) for name in fields_of(cls)})


def setting_names(cls: type[Settings], prefix: str = "") -> list[str]:
    """Returns the dotted names of all fields, sections included."""
    names = []
    for item in fields_of(cls).values():
        if issubclass(item.kind, Settings):
            names += setting_names(item.kind, f"{prefix}{item.name}.")
        names.append(prefix + item.name)
    return names


def described(cls: type[Settings], prefix: str = "") -> list[str]:
    """Returns one line per field: its name and default, range or choices, and meaning."""
    lines = []
    for item in fields_of(cls).values():
        if issubclass(item.kind, Settings):
            lines += described(item.kind, f"{prefix}{item.name}.")
            continue
        limits = "" if item.low is None and item.choices is None else f" [{item.remedy.removeprefix('choose ')}]"
        help = f"{item.help}; None = {item.unset}" if item.unset else item.help
        meaning = ": ".join(word for word in (item.unit, help) if word)
        lines.append(f"{prefix}{item.name}={item.default}  {meaning}{limits}")
    return lines


def current_name(cls: type[Settings], name: str) -> str:
    """Returns a dotted name with every old part of it replaced by the current one."""
    first, dot, rest = name.partition(".")
    for item in fields_of(cls).values():
        if first in (item.name, item.was) and first:
            return item.name + dot + (current_name(item.kind, rest) if issubclass(item.kind, Settings) else rest)
    return name


def with_current_names(cls: type[Settings], arguments: Iterable[str], prefix: str = "config.") -> list[str]:
    """Returns command-line arguments with old names of settings replaced; one warning for each."""
    result = []
    for argument in arguments:
        name, equals, value = argument.partition("=")
        dashes = name[: len(name) - len(name.lstrip("-"))]
        old = name.removeprefix(dashes + prefix)
        if dashes and old != name and (new := current_name(cls, old)) != old:
            _warn_of(prefix + old, prefix + new)
            argument = f"{dashes}{prefix}{new}{equals}{value}"
        result.append(argument)
    return result


def nearest_name(name: str, names: Iterable[str]) -> str:
    """Returns ` did you mean 'x'?`, or nothing when no name is close."""
    close = difflib.get_close_matches(name, list(names), n=1)
    return f" did you mean '{close[0]}'?" if close else ""


def as_track(item: Field, value: Any, path: str) -> np.ndarray:
    """Returns a series of numbers as float32 (frames,) or (frames, width); a constant has one frame.

    InputError, which begins with `path`, for another shape, for what is no number, and for a number out of range.
    """
    one = f"{item.length} numbers" if item.is_tuple else "a number"
    fault = InputError(f"{path}: not a constant or a track; give {one}, or {one} per frame")
    try:
        track = np.asarray(value)
    except ValueError as error:  # rows of several lengths
        raise fault from error
    plain = track.size == 0 or track.dtype.kind in "iuf"
    if not plain or (not isinstance(value, np.ndarray) and _has_booleans(value)):
        raise fault
    shape = (item.length,) if item.is_tuple else ()
    if track.shape == shape:
        track = track[None]
    if track.ndim != len(shape) + 1 or track.shape[1:] != shape or not len(track):
        raise InputError(f"{path}: has shape {track.shape}; give {one}, or {one} per frame")
    inside = (track >= item.low) & (track <= item.high)
    if not inside.all():
        raise InputError(f"{path}: {track[~inside][0]:g} is out of range; {item.remedy}")
    return track.astype(np.float32)


def _has_booleans(value: Any) -> bool:
    return any(isinstance(one, (bool, np.bool_)) for one in np.asarray(value, object).flat)


def _check(item: Field, value: Any, path: str) -> None:
    if value is None and item.optional:
        return
    if issubclass(item.kind, Settings):
        if not isinstance(value, item.kind):
            raise InputError(f"{path}: {value!r} is a {type(value).__name__}; give a {item.kind.__name__}")
        value.validate(path)
    elif item.series and item.kind is not str:
        as_track(item, value, path)
    elif item.series and not isinstance(value, str):
        if not isinstance(value, Sequence) or not value:
            raise InputError(f"{path}: {value!r} is not a text or a list of texts; give one, or one per frame")
        for one in value:
            _check_one(item, one, path)
    elif item.is_tuple:
        _check_tuple(item, value, path)
    else:
        _check_one(item, value, path)


def _check_tuple(item: Field, value: Any, path: str) -> None:
    if not isinstance(value, tuple):
        raise InputError(f"{path}: {value!r} is a {type(value).__name__}; give a tuple")
    for one in value:
        _check_one(item, one, path)
    if item.length is not None and len(value) != item.length:
        raise InputError(f"{path}: {value} has {len(value)} values; give {item.length}")
    if len(value) < item.least:
        raise InputError(f"{path}: {value} is empty or too short; give at least {item.least}")
    if item.distinct and len(set(value)) < len(value):
        raise InputError(f"{path}: {value} names one twice; give each value once")


def _check_one(item: Field, value: Any, path: str) -> None:
    wanted = {bool: bool, int: numbers.Integral, float: numbers.Real, str: str}[item.kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and item.kind is not bool):
        raise InputError(f"{path}: {_shown(value)} is not {_NAMES[item.kind]}; {item.remedy}")
    if item.kind is str and "\0" in value:
        raise InputError(f"{path}: {_shown(value)} holds a NUL, which no name has; leave it out")
    if item.choices is not None and value not in item.choices:
        raise InputError(f"{path}: {_shown(value)} is unknown; {item.remedy}")
    if item.kind in (int, float) and not item.low <= value <= item.high:  # nor is NaN in any range
        raise InputError(f"{path}: {_shown(value)} is out of range; {item.remedy}")


def _shown(value: Any) -> str:
    """A value in a message: not more than a line can hold, and whole numbers of any length."""
    if isinstance(value, int) and abs(value) >= 10**30:
        return f"a number of {value.bit_length()} bits"
    text = repr(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[: LONGEST_VALUE - 3]}..."


def _built(cls: type[Settings], config: ml_collections.ConfigDict, path: str) -> Settings:
    declared, values = fields_of(cls), {}
    for key in config:
        name = current_name(cls, key)
        if name not in declared:
            hint = nearest_name(key, declared) or " --help lists all of them"
            raise InputError(f"{path}.{key}: no such setting;{hint}")
        if name != key:
            _warn_of(f"{path}.{key}", f"{path}.{name}")
        item, value = declared[name], config[key]
        if issubclass(item.kind, Settings) and isinstance(value, (ml_collections.ConfigDict, dict)):
            value = _built(item.kind, value, f"{path}.{name}")
        values[name] = _converted(item, value)
    return cls(**values)


def _converted(item: Field, value: Any) -> Any:
    """Lists to tuples, and whole numbers to floats where the field holds floats."""
    if item.is_tuple and isinstance(value, (list, tuple)):
        return tuple(float(one) if item.kind is float and type(one) is int else one for one in value)
    return float(value) if item.kind is float and type(value) is int else value


def _warn_of(old: str, new: str) -> None:
    logging.warning("%s is now called %s; the old name is accepted for one release", old, new)

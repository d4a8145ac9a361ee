"""Typed settings on a small example: types, ranges, choices, series, old names, and to a ConfigDict and back."""

import dataclasses
import math

import ml_collections
import numpy as np
import pytest

from vasa_jax import settings
from vasa_jax.errors import InputError
from vasa_jax.settings import (
    Series,
    Settings,
    as_track,
    choice,
    current_name,
    described,
    fields_of,
    flag,
    number,
    part,
    section,
    setting_names,
    text,
    with_current_names,
)


@section
class Engine(Settings):
    """An engine."""

    power: float = number(75.0, 0, 500, "kW", "at most", was="strength")
    cylinders: int = number(4, 1, 16, "", "in a row")
    fuel: str = choice("petrol", ("petrol", "diesel"), "what it burns")
    gears: tuple[float, ...] = number((3.5, 1.0), 0.1, 10, "", "ratios", least=1, distinct=True)


@section
class Car(Settings):
    """A car."""

    name: str = text("", "of the car")
    open: bool = flag(False, "without a roof")
    doors: int | None = number(None, 2, 5, "", "None = unknown")
    mirrors: tuple[float, float] = number((0.1, 0.2), 0, 1, "m", "left, right")
    colours: tuple[str, ...] = choice((), ("red", "blue"), "of the paint")
    speed: Series[float] = number(50.0, 0, 200, "km/h", "constant, or one per second")
    place: Series[tuple[float, float]] | None = number(None, -90, 90, "degrees", "constant, or one per second")
    mood: Series[str] = text("calm", "constant, or one per second")
    engine: Engine = part(Engine(), was="motor")

    def check_together(self, path):
        if self.open and self.doors == 5:
            raise InputError(f"{path}.doors: an open car has no fifth door; choose 2")


GOOD = Car(
    name="x", open=True, doors=2, mirrors=(0.0, 1.0), colours=("red",), speed=[0, 100.5], place=[(0, 0), (45, -45)],
    mood=["calm", "wild"], engine=Engine(power=100, gears=(2.0,)),
)  # fmt: skip


@pytest.mark.parametrize("car", [Car(), GOOD])
def test_good_settings_are_good_and_come_back(car):
    assert car.validate() is car
    assert Car.from_config_dict(car.to_config_dict()) == dataclasses.replace(
        car, place=None if car.place is None else tuple(car.place)
    )


def test_numbers_of_numpy_are_numbers():
    Car(doors=np.int64(3), speed=np.arange(3), place=np.zeros((4, 2))).validate()
    Engine(power=np.float32(3.0), cylinders=np.int32(2)).validate()


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"name": 3}, "car.name: 3 is not a text; give a text"),
        ({"open": 1}, "car.open: 1 is not True or False"),
        ({"doors": 1}, "car.doors: 1 is out of range; choose 2 to 5"),
        ({"doors": 2.0}, "car.doors: 2.0 is not a whole number; choose 2 to 5"),
        ({"doors": True}, "car.doors: True is not a whole number"),
        ({"doors": "4"}, "car.doors: '4' is not a whole number"),
        ({"open": None}, "car.open: None is not True or False"),
        ({"mirrors": (0.5,)}, "car.mirrors: (0.5,) has 1 values; give 2"),
        ({"mirrors": (0.5, "a")}, "car.mirrors: 'a' is not a number; choose 0 to 1"),
        ({"mirrors": 0.5}, "car.mirrors: 0.5 is a float; give a tuple"),
        ({"colours": ("green",)}, "car.colours: 'green' is unknown; choose one of red, blue"),
        ({"colours": (None,)}, "car.colours: None is not a text"),
        ({"speed": -1}, "car.speed: -1 is out of range; choose 0 to 200"),
        ({"speed": [1, math.nan]}, "car.speed: nan is out of range"),
        ({"speed": "5"}, "car.speed: not a constant or a track; give a number, or a number per frame"),
        ({"speed": [1, "2"]}, "car.speed: not a constant or a track"),
        ({"speed": [True, 1]}, "car.speed: not a constant or a track"),
        ({"speed": None}, "car.speed: not a constant or a track"),
        ({"speed": []}, "car.speed: has shape (0,)"),
        ({"place": (1, 2, 3)}, "car.place: has shape (3,); give 2 numbers, or 2 numbers per frame"),
        ({"place": [(1, 2), (3,)]}, "car.place: not a constant or a track"),
        ({"mood": 3}, "car.mood: 3 is not a text or a list of texts"),
        ({"mood": ["calm", 3]}, "car.mood: 3 is not a text"),
        ({"engine": None}, "car.engine: None is a NoneType; give a Engine"),
        ({"engine": Engine(power=math.inf)}, "car.engine.power: inf is out of range; choose 0 to 500"),
        ({"engine": Engine(fuel="water")}, "car.engine.fuel: 'water' is unknown; choose one of petrol, diesel"),
        ({"engine": Engine(gears=())}, "car.engine.gears: () is empty or too short; give at least 1"),
        ({"engine": Engine(gears=(1.0, 1))}, "car.engine.gears: (1.0, 1) names one twice"),
        ({"open": True, "doors": 5}, "car.doors: an open car has no fifth door"),
    ],
)
def test_faults_are_one_line_that_names_the_field(changes, fault):
    with pytest.raises(InputError) as error:
        Car(**changes).validate("car")
    assert str(error.value).startswith(fault) and "\n" not in str(error.value)


def test_a_track_is_float32_with_a_frame_per_row():
    place = fields_of(Car)["place"]
    np.testing.assert_array_equal(as_track(place, (10, -5), "place"), np.float32([[10, -5]]))
    track = as_track(place, [(0, 0.1), (1, 2)], "place")
    assert track.dtype == np.float32 and track.shape == (2, 2)
    assert as_track(fields_of(Car)["speed"], 7, "speed").tolist() == [7.0]


def test_lists_and_whole_numbers_become_what_the_fields_hold():
    config = ml_collections.ConfigDict({"mirrors": [0, 1], "engine": {"power": 3}})
    car = Car.from_config_dict(config)
    assert car.mirrors == (0.0, 1.0) and type(car.mirrors[0]) is float and type(car.engine.power) is float


@pytest.mark.parametrize(
    ("config", "fault"),
    [
        ({"nam": "x"}, "config.nam: no such setting; did you mean 'name'?"),
        ({"engine": {"pwer": 1}}, "config.engine.pwer: no such setting; did you mean 'power'?"),
        ({"zzz": 1}, "config.zzz: no such setting; --help lists all of them"),
        ({"engine": 5}, "config.engine: 5 is a int; give a Engine"),
    ],
)
def test_unknown_names_get_the_nearest(config, fault):
    with pytest.raises(InputError) as error:
        Car.from_config_dict(ml_collections.ConfigDict(config))
    assert str(error.value) == fault


@pytest.fixture
def warnings(monkeypatch):
    lines = []
    monkeypatch.setattr(settings.logging, "warning", lambda text, *values: lines.append(text % values))
    return lines


def test_old_names_are_accepted_with_one_line(warnings):
    assert Engine(strength=3.0) == Engine(power=3.0)
    assert Car(motor=Engine(power=3.0)).engine.power == 3.0
    assert dataclasses.replace(Engine(), strength=9.0).power == 9.0
    config = ml_collections.ConfigDict({"motor": {"strength": 3.0}})
    assert Car.from_config_dict(config).engine.power == 3.0
    given = [
        "main",
        "--config=a.py",
        "--config.motor.strength=3",
        "--config.engine.power=4",
        "--workdir",
        "config.motor",
    ]
    found = with_current_names(Car, given)
    assert found == [*given[:2], "--config.engine.power=3", *given[3:]]
    assert len(warnings) == 6 and all("\n" not in line for line in warnings)
    assert warnings[0] == "Engine.strength is now called power; the old name is accepted for one release"
    assert "config.motor.strength is now called config.engine.power" in warnings[-1]
    assert current_name(Car, "engine.unknown") == "engine.unknown" and current_name(Car, "unknown") == "unknown"


def test_current_names_give_no_warning(warnings):
    Car.from_config_dict(Car(engine=Engine(power=1.0)).to_config_dict())
    assert warnings == []


def test_help_tells_default_unit_and_range():
    lines = described(Car)
    assert "engine.power=75.0  kW: at most [0 to 500]" in lines
    assert "engine.fuel=petrol  what it burns [one of petrol, diesel]" in lines
    assert len(lines) == len(setting_names(Car)) - 1  # a section is no setting
    assert setting_names(Car)[-5:] == ["engine.power", "engine.cylinders", "engine.fuel", "engine.gears", "engine"]


def test_a_field_without_declaration_or_range_is_refused():
    class Bare(Settings):
        size: int = 3

    with pytest.raises(TypeError, match="declare size"):
        section(Bare)

    @section
    class Unbounded(Settings):
        size: int = settings.field(3)

    with pytest.raises(TypeError, match="a number needs a range"):
        fields_of(Unbounded)

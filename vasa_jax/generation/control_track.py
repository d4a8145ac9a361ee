"""Control tracks: a JSON file that says what a video is asked for, constant or frame by frame.

    {"gaze": [[0, 0], [0.5, 0], [1, 0]], "emotion": "happiness:0.5", "pose_amplitude": 0.7}

The names and units are the fields of `Controls` (generation/controls.py); a list has one value per frame, 25 per
second, and its last value holds on.
"""

import dataclasses
from pathlib import Path
from typing import Any

from vasa_jax.config import VASAConfig
from vasa_jax.errors import InputError
from vasa_jax.files import expanded, read_json
from vasa_jax.generation.controls import Controls
from vasa_jax.settings import fields_of, nearest_name


def controls_of(config: VASAConfig) -> Controls:
    """Returns the controls of a run: those of its settings, over them those of its control track file, if any.

    InputError for a bad value or file.
    """
    controls = Controls.from_config(config)
    if not config.controls:
        return controls
    return dataclasses.replace(controls, **read_control_track(config.controls)).validate("config")


def read_control_track(path: str | Path) -> dict[str, Any]:
    """Returns the controls that a file sets, name to value; InputError names the file and the first fault."""
    path = expanded(path)
    content = read_json(path, "give a control track, see the example in generation/control_track.py")
    return checked_controls(content, str(path))


def checked_controls(content: Any, where: str) -> dict[str, Any]:
    """Returns the controls that JSON sets, name to value; InputError `where`: the first fault."""
    names = fields_of(Controls)
    if not isinstance(content, dict):
        raise InputError(f'{where}: holds no object; write {{"gaze": [10, -5]}} or the like')
    for name in content:
        if name not in names:
            hint = nearest_name(name, names) or f" known are {', '.join(names)}"
            raise InputError(f"{where}: no control '{name}';{hint}")
        if content[name] is None and (not names[name].optional or names[name].default is None):
            raise InputError(f"{where}: {name} is null; leave it out where it is free")
    Controls(**content).validate(where)
    return content

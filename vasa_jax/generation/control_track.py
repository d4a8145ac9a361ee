"""Control tracks: a JSON file that says what a video is asked for, constant or frame by frame.

    {"gaze": [[0, 0], [0.5, 0], [1, 0]], "emotion": "happiness:0.5", "pose_amplitude": 0.7}

The names and units are the fields of `Controls` (generation/controls.py); a list has one value per frame, 25 per
second, and its last value holds on.
"""

import dataclasses
import difflib
import json
from pathlib import Path
from typing import Any

from vasa_jax.errors import InputError
from vasa_jax.generation.controls import Controls

_NAMES = tuple(field.name for field in dataclasses.fields(Controls))


def read_control_track(path: str | Path) -> dict[str, Any]:
    """The controls that a file sets, name to value; InputError names the file and the first fault."""
    path = Path(path)
    try:
        content = json.loads(path.read_text())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error}); give a control track file") from error
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); see the example in generation/control_track.py") from error
    if not isinstance(content, dict):
        raise InputError(f'{path}: holds no object; write {{"gaze": [10, -5]}} or the like')
    for name in content:
        if name not in _NAMES:
            close = difflib.get_close_matches(name, _NAMES, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(_NAMES)}"
            raise InputError(f"{path}: no control '{name}'; {hint}")
        if content[name] is None:
            raise InputError(f"{path}: {name} is null; leave it out where it is free")
    Controls(**content).validate(str(path))
    return content

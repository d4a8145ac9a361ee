"""TensorBoard's event files, written in the run's own thread, where a full disk is an error that is heard."""

import time
from pathlib import Path

import numpy as np


class EventFile:
    """Appends scalars and images of a run to a new event file of `folder`.

    TensorBoard hides what earlier files there hold of `first_step` and later ones. Raises OSError where the file
    cannot be written.
    """

    def __init__(self, folder: Path, first_step: int):
        from tensorboardX.event_file_writer import EventsWriter
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        folder.mkdir(exist_ok=True)
        self._event = Event
        self._writer = EventsWriter(str(folder / "events"))
        self._add(first_step, session_log=SessionLog(status=SessionLog.START))

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Writes the values of one step."""
        from tensorboardX.summary import scalar

        for name, value in values.items():
            self._add(step, summary=scalar(name, float(value)))
        self._writer.flush()

    def image(self, step: int, name: str, image: np.ndarray) -> None:
        """Writes a picture, uint8 (H, W, 3)."""
        from tensorboardX.summary import image as summary_of

        self._add(step, summary=summary_of(name, image, dataformats="HWC"))
        self._writer.flush()

    def close(self) -> None:
        """Finishes the file."""
        self._writer.close()

    def _add(self, step: int, **content) -> None:
        self._writer.write_event(self._event(step=step, wall_time=time.time(), **content))

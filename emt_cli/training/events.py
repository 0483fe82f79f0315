"""TensorBoard's event files, each written at once: its own writer has a thread, which fails on its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tensorboard.compat.proto.event_pb2 import Event


class Events:
    """One file of events, whose steps take the place of the same and later ones in older files."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Begin a new file; raises ImportError without TensorBoard, OSError."""
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog

        folder.mkdir(parents=True, exist_ok=True)
        self._path = folder / f"events.out.tfevents.{time.time():017.6f}"
        self._append(Event(file_version="brain.Event:2", step=first_step))
        self._append(Event(session_log=SessionLog(status=SessionLog.START), step=first_step))

    def add(self, step: int, values: dict[str, float]) -> None:
        """Add one step's values; raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        entries = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._append(Event(summary=Summary(value=entries), step=step))

    def add_picture(self, step: int, name: str, data: bytes, size: tuple[int, int]) -> None:
        """Add a PNG file of a height and width; raises OSError."""
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        image = Summary.Image(height=size[0], width=size[1], colorspace=3, encoded_image_string=data)
        self._append(Event(summary=Summary(value=[Summary.Value(tag=name, image=image)]), step=step))

    def _append(self, event: Event) -> None:
        from tensorboard.summary.writer.record_writer import RecordWriter

        event.wall_time = time.time()
        with self._path.open("ab") as stream:
            RecordWriter(stream).write(event.SerializeToString())

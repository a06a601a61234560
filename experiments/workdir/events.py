"""The rows of metrics.jsonl once more, for TensorBoard, which a run can do without.

They are written by the thread that makes them: tensorboardX's own would die unseen where a disk is full, and whoever
waits for it would wait for ever.
"""

import contextlib
import pathlib
import platform
import time
from collections.abc import Iterator, Mapping

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import RecordWriter

from experiments.terminal import warn
from experiments.workdir.files import free_name


class Events:
    """A file of events in a folder. What cannot be written ends them with one warning, and nothing else.

    Args:
      folder: made if it is not there.
      first: the step from which on earlier files are of no account; 0 if there are none.
    """

    def __init__(self, folder: pathlib.Path, first: int):
        self._folder, self._file = folder.absolute(), None
        with self._or_none():
            self._folder.mkdir(exist_ok=True)
            name = f'events.out.tfevents.{time.time():.0f}.{platform.node()}'
            self._file = RecordWriter(str(free_name(self._folder / name)))
            self._write(file_version='brain.Event:2')
            if first:
                self._write(file_version='brain.Event:2', step=first)
                self._write(step=first, session_log=SessionLog(status=SessionLog.START))

    def append(self, row: Mapping) -> None:
        """Adds the numbers of a row, and leaves out its lists."""
        numbers = {key: value for key, value in row.items() if type(value) in (int, float)}
        values = [Summary.Value(tag=key, simple_value=value) for key, value in numbers.items()]
        if self._file:
            with self._or_none():
                self._write(step=row['step'], summary=Summary(value=[each for each in values if each.tag != 'step']))
                self._file.flush()

    def close(self) -> None:
        """Ends the file."""
        if self._file:
            with self._or_none():
                self._file.close()

    def _write(self, **content) -> None:
        self._file.write(Event(wall_time=time.time(), **content).SerializeToString())

    @contextlib.contextmanager
    def _or_none(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            warn(f'no more events for TensorBoard in {self._folder}: {error.strerror or error}; the run goes on')
            with contextlib.suppress(OSError, AttributeError):  # what is left in its buffer cannot be written either
                self._file.close()
            self._file = None

"""Checkpoints of the whole state, through orbax, as plain arrays that any number of devices can read.

`checkpoints/<step>/` gets its name when all of it is written, with checksums, and is read only if every file is as it
was written, and belongs to the run and the step that it is taken for. Any other is set aside, never overwritten.
"""

import concurrent.futures
import contextlib
import logging
import os
import pathlib
import re
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence

import jax
import numpy as np
import optax
import orbax.checkpoint as ocp

from experiments.errors import UserError
from experiments.terminal import warn
from experiments.workdir import checksums, room, seals
from experiments.workdir.files import free_name, write_text
from experiments.workdir.rows import sound_rows, text
from qat.lockstep.state import RunState, State
from qat.lockstep.tracking import Tracking
from qat.lockstep.twins import REFERENCE

_KEPT = 2
_ARRAYS, _ROWS = 'state', 'rows.jsonl'  # in the folder of a checkpoint: orbax's folder, and the rows so far
_NAMED = 3  # of the checkpoints passed over, the most that get a warning each
# What goes wrong in orbax is raised; its threads would print it too, each in a hundred lines.
logging.getLogger('absl').addFilter(lambda record: 'orbax' not in pathlib.Path(record.pathname).parts)


class Checkpoints:
    """The checkpoints of a workdir. It is a context manager, whose end waits for what is being written.

    All processes hold the same state, so process 0 writes alone.

    Args:
      workdir: the workdir.
      check: raises if the workdir is not this run's any more; called before each write.
    """

    def __init__(self, workdir: pathlib.Path, check: Callable[[], None] = lambda: None):
        self.folder = (workdir / 'checkpoints').absolute()
        self._check, self._run = check, seals.run_of(workdir)
        self._primary = jax.process_index() == 0
        self._lock = threading.Lock()  # a signal's thread may save beside the training loop
        self._writer = concurrent.futures.ThreadPoolExecutor(1)
        self._writing = None

    def __enter__(self):
        if self._primary:
            self.folder.mkdir(exist_ok=True)
            for unfinished in self.folder.glob('.[0-9]*'):  # left by a process that was killed
                if unfinished.name[1:].isdecimal():
                    _remove(unfinished)
        return self

    def __exit__(self, *_):
        self._writer.shutdown()
        self.wait()

    def save(self, state: State, rows: Sequence[Mapping] = ()) -> None:
        """Writes a checkpoint in the background, unless there is one of this step.

        Args:
          state: of all runs.
          rows: of metrics.jsonl so far: a run goes on from these, whatever becomes of that file.

        Raises:
          UserError: the checkpoint before this one could not be written.
        """
        if not self._primary:
            return
        with self._lock:
            self.wait()
            step = int(state.step)
            self._check()
            if step not in _steps(self.folder):
                # Copies: the state's buffers are donated to the next step while these are being written.
                arrays = jax.tree.map(np.array, jax.device_get(state))
                self._writing = self._writer.submit(self._write, step, arrays, text(rows))

    def save_now(self, state: State, rows: Sequence[Mapping] = ()) -> None:
        """Writes a checkpoint like `save`, and returns when it is written.

        Raises:
          UserError: it, or the checkpoint before, could not be written.
        """
        self.save(state, rows)
        self.wait()

    def wait(self) -> None:
        """Returns when no checkpoint is being written any more.

        Raises:
          UserError: the last checkpoint could not be written.
        """
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def _write(self, step: int, state: State, rows: str) -> None:
        final, unfinished = self.folder / str(step), self.folder / f'.{step}'
        try:
            _remove(unfinished)
            unfinished.mkdir()  # where that fails, threads of orbax would wait for each other
            room.check(unfinished, sum(leaf.nbytes for leaf in jax.tree.leaves(state)))
            write_text(unfinished / _ROWS, rows)
            with _checkpointer() as checkpointer:
                checkpointer.save(unfinished / _ARRAYS, state)
            seals.seal(unfinished, self._run, step)
            checksums.seal(unfinished)
            os.replace(unfinished, final)
        except Exception as error:  # orbax and tensorstore have no common class for a full disk
            shutil.rmtree(unfinished, ignore_errors=True)
            raise UserError(
                f'cannot save {final}: {room.reason(error)}; make room or mend its rights: then the same command goes '
                'on from the newest checkpoint'
            ) from None
        with contextlib.suppress(OSError):  # one too many does no harm
            for old in sorted(_steps(self.folder))[:-_KEPT]:
                doomed = self.folder / f'.{old}'
                os.replace(self.folder / str(old), doomed)  # in one step, so that a kill leaves no half checkpoint
                _remove(doomed)

    def newest(self, at_most: float = float('inf')) -> int | None:
        """Returns the step of the newest sound checkpoint up to step `at_most`, or None if there are no checkpoints.

        Newer ones are set aside under another name, with a warning: they are damaged, or will be made again.

        Raises:
          UserError: there are checkpoints, but none that can be used.
        """
        step, passed_over = _newest_sound(self.folder, self._run, at_most)
        if step is None and passed_over:
            raise UserError(
                f'no sound checkpoint is left in {self.folder} ({_reasons(passed_over)}); put one back, or choose '
                'another --workdir'
            )
        for number, (other, reason) in enumerate(passed_over.items(), 1):
            aside = free_name(self.folder / f'{other}.set-aside')
            os.replace(self.folder / str(other), aside)
            if number <= _NAMED:
                warn(f'{self.folder / str(other)}: {reason}; set aside as {aside.name}, going on from step {step}')
        if len(passed_over) > _NAMED:
            warn(f'{self.folder}: {len(passed_over) - _NAMED} more like these, set aside too')
        return step

    def rows(self, step: int) -> list[dict] | None:
        """Returns the rows that go with a sound checkpoint, or None if an earlier version wrote it without."""
        path = self.folder / str(step) / _ROWS
        return list(sound_rows(path)) if path.exists() else None

    def restore(self, step: int, like: State) -> State:
        """Returns the state in a checkpoint, as numpy arrays in the structure of `like`.

        Raises:
          UserError: the checkpoint has another structure.
        """
        template = jax.tree.map(np.asarray, jax.device_get(like))
        return _read(self.folder / str(step), template)


def read_weights(workdir: str) -> tuple[dict, dict]:
    """Returns the reference's parameters and model state in the newest sound checkpoint of a run.

    Raises:
      UserError: there is no sound checkpoint.
    """
    reference = read_newest('init_from', workdir)['runs'][REFERENCE]
    return reference['params'], reference.get('model_state') or {}


def read_reference(workdir: pathlib.Path, optimizer: optax.GradientTransformation) -> State:
    """Returns the state in the newest sound checkpoint of a run, without its twins and what was tracked of them.

    Args:
      workdir: the workdir of the run.
      optimizer: the optimizer of the reference, which gives the structure of its state.

    Raises:
      UserError: there is no sound checkpoint, or it is of another optimizer.
    """
    found = read_newest('--from', workdir)
    reference = found['runs'][REFERENCE]
    try:
        opt_state = _structured(jax.eval_shape(optimizer.init, reference['params']), reference['opt_state'])
    except (LookupError, TypeError):
        raise UserError(f'--from: the checkpoint in {str(workdir)!r} is not of the optimizer in config.json') from None
    run = RunState(reference['params'], reference.get('model_state') or {}, opt_state, reference['loss'])
    return State(found['step'], found['ranges'], {REFERENCE: run}, Tracking({}, {}, {}))


def read_newest(flag: str, workdir: str | pathlib.Path) -> dict:
    """Returns the newest sound checkpoint of a workdir as nested dicts and lists of arrays.

    Args:
      flag: the flag or config key that names the workdir, for messages.
      workdir: the workdir of the run.

    Raises:
      UserError: there is no sound checkpoint.
    """
    folder = pathlib.Path(workdir, 'checkpoints').absolute()
    if not os.path.isdir(folder):  # its name may be too long to ask for more
        lacking = 'holds no checkpoints' if os.path.isdir(workdir) else 'is neither a workdir nor a .safetensors file'
        raise UserError(f'{flag}: {str(workdir)!r} {lacking}')
    step, passed_over = _newest_sound(folder, seals.run_of(pathlib.Path(workdir)))
    if step is None:
        found = f'no sound checkpoint: {_reasons(passed_over)}' if passed_over else 'no checkpoints'
        raise UserError(f'{flag}: {str(workdir)!r} holds {found}')
    for other, reason in [*passed_over.items()][:_NAMED]:
        warn(f'{flag}: {folder / str(other)}: {reason}; taking step {step}')
    return _read(folder / str(step))


def _read(folder: pathlib.Path, *template: State):
    try:
        with _checkpointer() as checkpointer:
            return checkpointer.restore(folder / _ARRAYS, *template)
    except Exception as error:  # the files are as they were written, so the disk is not to blame
        reason = str(error).splitlines()[0][:120]
        raise UserError(
            f'{folder} was written by another version of this program, or for another run: choose another workdir '
            f'({reason})'
        ) from None


def _checkpointer() -> ocp.StandardCheckpointer:
    """Returns a checkpointer of this process alone, which does not wait for the other processes."""
    index = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(index, {index}, barrier_sync_key_prefix=f'process{index}')
    return ocp.StandardCheckpointer(multiprocessing_options=alone)


def _newest_sound(folder: pathlib.Path, run: str, at_most: float = float('inf')) -> tuple[int | None, dict[int, str]]:
    """Returns the step of a run's newest sound checkpoint up to a step, and by step why newer ones are passed over."""
    passed_over = {}
    for step in sorted(_steps(folder), reverse=True):
        reason = checksums.damage(folder / str(step)) or seals.stranger(folder / str(step), run)
        if reason is None and step > at_most and not (folder / str(step) / _ROWS).exists():
            reason = f'metrics.jsonl lacks the row of step {at_most:g}'
        if reason is None:
            return step, passed_over
        passed_over[step] = reason
    return None, passed_over


def _remove(path: pathlib.Path) -> None:
    """Removes a folder, or a link where one should be, which is not followed; what cannot be removed stays."""
    with contextlib.suppress(OSError):
        path.unlink() if path.is_symlink() or path.is_file() else shutil.rmtree(path)


def _reasons(passed_over: Mapping[int, str]) -> str:
    """Returns why the newest checkpoints were passed over, and how many more."""
    named = '; '.join(f'{step}: {reason}' for step, reason in [*passed_over.items()][:_NAMED])
    return f'{named}; and {len(passed_over) - _NAMED} more' if len(passed_over) > _NAMED else named


def _steps(folder: pathlib.Path) -> set[int]:
    """The steps after which folders are named; no other name is that of a checkpoint."""
    return {int(path.name) for path in folder.glob('[0-9]*') if re.fullmatch('0|[1-9][0-9]{0,8}', path.name)}


def _structured(like: optax.OptState, nested: dict | list) -> optax.OptState:
    """Returns nested dicts and lists as the named tuples of `like`: orbax keeps their names, but not their types."""

    def find(path, _):
        found = nested
        for key in path:
            found = found[getattr(key, 'name', getattr(key, 'key', getattr(key, 'idx', None)))]
        return found

    return jax.tree_util.tree_map_with_path(find, like)

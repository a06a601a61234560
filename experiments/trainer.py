"""The only training loop: feeds batches, evaluates, records, checkpoints, resumes."""

import contextlib
import functools
import math
import pathlib
import signal
import sys
import threading
import time
from collections.abc import Iterator

import jax
import numpy as np
from flax.jax_utils import prefetch_to_device
from tqdm import tqdm

from experiments import distributed, environment, records, report, summary
from experiments.checkpoints import Checkpoints, read_weights
from experiments.datasets import Batches
from experiments.errors import UserError
from experiments.input_pipeline import load
from experiments.lock import locked
from experiments.programs import programs
from experiments.runs import REFERENCE, Moment, State, kernels
from experiments.settings import AXIS, Settings

FINISHED, NOT_FINITE, TERMINATED = 0, 3, 143  # exit codes
_STEPS_IN_FLIGHT = 10  # the host waits for the devices that often
_BATCHES_AHEAD = 2
_SAMPLED_WEIGHTS = 4000  # a layer, for the report's scatter


class Trainer:
    """A run on this machine's devices."""

    def __init__(self, settings: Settings, batches: Batches):
        config = settings.config
        self.settings, self.batches = settings, batches
        self.steps_per_epoch, self.steps = settings.steps(batches.steps_in_data)
        self.record_every = config.eval_every_epochs * self.steps_per_epoch
        self.programs = programs(settings, batches.classes)
        self.lockstep, self.devices = self.programs.lockstep, self.programs.devices
        self._learning_rates = settings.learning_rates(self.steps)
        self._train_seconds, self._steps_timed, self._compile_seconds = 0.0, 0, None

    def initial_state(self) -> State:
        """The state before the first step.

        Raises:
          UserError: `init_from` names weights of another architecture.
        """
        init = functools.partial(
            self.programs.init, jax.random.key(self.settings.config.seed), image_shape=self.batches.image_shape
        )
        if not self.settings.config.init_from:
            return self.programs.placed(init())
        given = read_weights(self.settings.config.init_from)
        reference = jax.eval_shape(init).runs[REFERENCE]
        expected = {'params': reference.params, 'batch_stats': reference.batch_stats}
        if jax.tree.map(np.shape, given) != jax.tree.map(np.shape, expected):
            raise UserError(f'init_from: the weights of {self.settings.config.init_from} are of another architecture')
        return self.programs.placed(init(given=given))

    def train(
        self, state: State, log: records.NoRecords, checkpoints: Checkpoints, stop: threading.Event
    ) -> tuple[State, int]:
        """Runs to the end, to a signal, or to a number that is not finite; returns the exit code too."""
        every = self.settings.config.checkpoint_every_steps
        first = int(state.step)
        quiet = jax.process_index() > 0
        with tqdm(initial=first, total=self.steps, unit='step', mininterval=progress_interval(), disable=quiet) as bar:
            bar.set_postfix_str('compiling')
            batches = self.batches_from(first)
            for step in range(first, self.steps + 1):
                recorded_before = step == first > 0
                if not recorded_before and (step % self.record_every == 0 or step == self.steps):
                    row = self._record(state, step, log)
                    if any(row[key] is None for key in row if key.endswith(('eval/loss', 'eval_loss'))):
                        say(f'not finite: a loss at step {step}, see the last row of metrics.jsonl', file=sys.stderr)
                        return state, NOT_FINITE
                    bar.set_postfix_str(_postfix(row))
                if (step and step % every == 0) or step == self.steps or stop.is_set():
                    checkpoints.save(state)
                if step == self.steps or stop.is_set():
                    break
                state = self.advance(state, step, next(batches))
                bar.update()
        return state, TERMINATED if step < self.steps else FINISHED

    def batches_from(self, step: int) -> Iterator[tuple[jax.Array, jax.Array]]:
        """Batches from this step on, sharded, a few of them on the devices before they are needed."""
        host = map(self.programs.sharded, self.batches.train(step, self.steps_per_epoch))
        return prefetch_to_device(host, _BATCHES_AHEAD, self.devices, AXIS)

    def _moment(self, step: int) -> Moment:
        first = np.bool_(step % self.record_every == 0)
        return Moment(self._learning_rates[step], np.float32(step / self.steps), first)

    def advance(self, state: State, step: int, batch: tuple[jax.Array, jax.Array]) -> State:
        """One update of every run; the time it takes counts as training."""
        start = time.perf_counter()
        state = self.programs.step(state, self._moment(step), *batch)
        if self._compile_seconds is None:
            jax.block_until_ready(state)
            self._compile_seconds = time.perf_counter() - start
            return state
        if step % _STEPS_IN_FLIGHT == 0:
            jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        self._steps_timed += 1
        return state

    def _record(self, state: State, step: int, log: records.NoRecords) -> dict:
        start = time.perf_counter()
        jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        since = (step - 1) % self.record_every + 1
        losses = {name: run.loss.item() / since if step else None for name, run in state.runs.items()}
        evaluated = self.evaluate(state)
        measured = jax.device_get(self.programs.measure(state))
        row = summary.row(self.lockstep, step, losses, evaluated, measured, log.rows)
        log.append(row)
        return row

    def evaluate(self, state: State) -> dict:
        """The sums of `Lockstep.evaluate` over all validation examples."""
        sums = [self.programs.evaluate(state, *self.programs.sharded(batch)) for batch in self.batches.validation()]
        return jax.tree.map(lambda *parts: math.fsum(map(float, parts)), *jax.device_get(sums))

    def timing(self) -> dict:
        """The content of timing.json; None where nothing was measured."""
        statistics = self.devices[0].memory_stats() or {}
        return {
            'steps_per_second': self._steps_timed / self._train_seconds if self._steps_timed else None,
            'compile_seconds': self._compile_seconds,
            'peak_memory_bytes': statistics.get('peak_bytes_in_use'),
            'devices': len(self.devices),
        }

    def sampled_weights(self, state: State) -> dict[str, np.ndarray]:
        """w / R of evenly spaced weights of every layer: 'reference/conv1', 'ste/conv1', ..."""
        sampled = {}
        ranges = kernels(state.ranges, state.ranges)
        computed = {REFERENCE: REFERENCE, **self.lockstep.computed_by}
        for name, run in computed.items():
            for layer, kernel in kernels(state.ranges, state.runs[run].params).items():
                relative = np.ravel(kernel / ranges[layer])
                sampled[f'{name}/{layer}'] = relative[:: -(-relative.size // _SAMPLED_WEIGHTS)]
        return sampled


def run(settings: Settings, workdir: pathlib.Path, argv: list[str], *, draw: bool = True) -> int:
    """Trains, or continues, the run in a workdir and writes all that the contract names.

    Args:
      settings: of the run.
      workdir: a folder, perhaps of a run that was interrupted.
      argv: the command line, for people.
      draw: whether to write the report.

    Returns:
      The exit code.

    Raises:
      UserError: before anything is written, where the config and the data or the workdir do not fit.
    """
    config = settings.config.to_dict()
    if not settings.twins:
        raise UserError('twins: name at least one to compare with, as in --config.twins=ste,naive_ste,jitter')
    records.check_same_run(workdir, config)
    records.check_same_processes(workdir, jax.process_count())
    trainer = Trainer(settings, load(settings.config, distributed.share()))
    state = trainer.initial_state()
    for message in settings.warnings(kernels(state.ranges, state.ranges)):
        say(f'warning: {message}', file=sys.stderr)
    with _opened(workdir, config, environment.describe(argv, trainer.devices)):
        devices = f'{len(trainer.devices)} of {jax.local_device_count()} devices'
        say(f'{devices}, {jax.process_count()} process(es), {trainer.steps} steps of {config["batch_size"]} images')
        with _termination() as stop, Checkpoints(workdir) as checkpoints:
            state = trainer.programs.placed(checkpoints.restore(state))
            step, every = int(state.step), trainer.record_every
            with records.Records(workdir, step, every) if is_primary() else records.NoRecords() as log:
                state, code = trainer.train(state, log, checkpoints, stop)
        if code == FINISHED and is_primary():
            _finish(trainer, state, log.rows, workdir, draw)
    return code


def is_primary() -> bool:
    """Whether this process writes the files and talks to people."""
    return jax.process_index() == 0


def say(message: str, file=None) -> None:
    """Prints, once for all processes."""
    if is_primary():
        print(message, file=file or sys.stdout, flush=True)


@contextlib.contextmanager
def _opened(workdir: pathlib.Path, config: dict, environment_now: dict):
    """Makes the workdir, holds it for this run, and writes what is known before the first step."""
    if not is_primary():
        yield
        return
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'workdir {workdir}: {error.strerror}; choose another --workdir') from None
    with locked(workdir):
        records.check_same_run(workdir, config)  # again: now nobody else can write there
        records.write_json(workdir / 'config.json', config)
        records.write_json(workdir / 'environment.json', environment_now)
        yield


def _finish(trainer: Trainer, state: State, rows: list[dict], workdir: pathlib.Path, draw: bool) -> None:
    if trainer.timing()['steps_per_second'] is not None:
        records.write_json(workdir / 'timing.json', trainer.timing())
    np.savez(workdir / 'weights.npz', **trainer.sampled_weights(state))
    result = summary.summarize(trainer.settings, rows)
    records.write_json(workdir / 'summary.json', result)
    say(summary.table(result))
    say(f'\n{result["verdict"]}\n')
    if draw:
        say(f'Report: {report.write(workdir)}')


@contextlib.contextmanager
def _termination():
    """An event that SIGTERM sets: the loop saves and stops at the next step."""
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def progress_interval() -> float:
    """Seconds between updates of the progress bar: often for eyes, seldom for a log file."""
    return 0.1 if sys.stderr.isatty() else 10


def _postfix(row: dict) -> str:
    error = row.get('ste/weight_alignment_error')
    return f'accuracy {row["eval/accuracy"]:.3f}' + (f', ste error {error:.3f}' if error is not None else '')

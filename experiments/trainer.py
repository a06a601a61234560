"""The only pmap and the only training loop: feeds batches, evaluates, records, checkpoints, resumes."""

import contextlib
import functools
import math
import pathlib
import signal
import sys
import threading
import time

import jax
import numpy as np
from tqdm import tqdm

from experiments import environment, records, report, summary
from experiments.checkpoints import Checkpoints, read_params
from experiments.errors import UserError
from experiments.input_pipeline import Batches, load
from experiments.runs import AXIS, Lockstep, State, kernels
from experiments.settings import Settings

FINISHED, NOT_FINITE, TERMINATED = 0, 3, 143  # exit codes
_STEPS_IN_FLIGHT = 10  # the host waits for the devices that often
_SAMPLED_WEIGHTS = 4000  # a layer, for the report's scatter


class Trainer:
    """A run on this machine's devices."""

    def __init__(self, settings: Settings, batches: Batches):
        config = settings.config
        self.settings, self.batches = settings, batches
        self.steps_per_epoch, self.steps = settings.steps(batches.steps_in_data)
        self.record_every = config.eval_every_epochs * self.steps_per_epoch
        self.devices = _most_devices_that_divide(config.batch_size)
        self.lockstep = Lockstep(settings, batches.arrays.classes, self.steps, self.record_every)
        # The state is replicated on the way in and comes back as one copy: what a checkpoint holds.
        pmap = functools.partial(jax.pmap, axis_name=AXIS, devices=self.devices, out_axes=None)
        self._step = pmap(self.lockstep.step, in_axes=(None, 0, 0), donate_argnums=0)
        self._evaluate = pmap(self.lockstep.evaluate, in_axes=(None, 0, 0, 0))
        self._measure = jax.jit(self.lockstep.measure)
        self._train_seconds, self._steps_timed, self._compile_seconds = 0.0, 0, None

    def initial_state(self) -> State:
        """The state before the first step.

        Raises:
          UserError: `init_from` names weights of another architecture.
        """
        init = functools.partial(
            self.lockstep.init, jax.random.key(self.settings.config.seed), self.batches.arrays.image_shape
        )
        if not self.settings.config.init_from:
            return jax.jit(init)()
        given = read_params(self.settings.config.init_from)
        expected = jax.eval_shape(init).runs['reference'].params
        if jax.tree.map(np.shape, given) != jax.tree.map(np.shape, expected):
            raise UserError(f'init_from: the weights of {self.settings.config.init_from} are of another architecture')
        return jax.jit(init)(given)

    def train(
        self, state: State, log: records.Records, checkpoints: Checkpoints, stop: threading.Event
    ) -> tuple[State, int]:
        """Runs to the end, to a signal, or to a number that is not finite; returns the exit code too."""
        every = self.settings.config.checkpoint_every_steps
        first = int(state.step)
        with tqdm(initial=first, total=self.steps, unit='step', mininterval=_progress_interval()) as bar:
            bar.set_postfix_str('compiling')
            for step in range(first, self.steps + 1):
                if step % self.record_every == 0 or step == self.steps:
                    row = self._record(state, step, log)
                    if any(row[key] is None for key in row if key.endswith(('eval/loss', 'eval_loss'))):
                        print(f'not finite: a loss at step {step}, see {log.path}', file=sys.stderr)
                        return state, NOT_FINITE
                    bar.set_postfix_str(_postfix(row))
                if (step and step % every == 0) or step == self.steps or stop.is_set():
                    checkpoints.save(state)
                if step == self.steps or stop.is_set():
                    break
                state = self.advance(state, step)
                bar.update()
        return state, TERMINATED if step < self.steps else FINISHED

    def advance(self, state: State, step: int) -> State:
        """One update of every run; the time it takes counts as training."""
        batch = self._sharded(self.batches.train(step, self.steps_per_epoch))
        start = time.perf_counter()
        state = self._step(state, *batch)
        if self._compile_seconds is None:
            jax.block_until_ready(state)
            self._compile_seconds = time.perf_counter() - start
            return state
        if step % _STEPS_IN_FLIGHT == 0:
            jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        self._steps_timed += 1
        return state

    def _sharded(self, batch: tuple[np.ndarray, ...]) -> list[np.ndarray]:
        return [array.reshape(len(self.devices), -1, *array.shape[1:]) for array in batch]

    def _record(self, state: State, step: int, log: records.Records) -> dict:
        if log.rows and log.rows[-1]['step'] == step:
            return log.rows[-1]
        start = time.perf_counter()
        jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        since = (step - 1) % self.record_every + 1
        losses = {name: run.loss.item() / since if step else None for name, run in state.runs.items()}
        examples, evaluated = self._evaluate_all(state)
        measured = jax.device_get(self._measure(state))
        row = summary.row(self.lockstep, step, examples, losses, evaluated, measured, log.rows)
        log.append(row)
        return row

    def _evaluate_all(self, state: State) -> tuple[int, dict]:
        sums, examples = [], 0
        for images, labels, mask in self.batches.validation():
            sums.append(self._evaluate(state, *self._sharded((images, labels, mask))))
            examples += int(mask.sum())
        return examples, jax.tree.map(lambda *parts: math.fsum(map(float, parts)), *jax.device_get(sums))

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
        computed = {'reference': 'reference', **self.lockstep.computed_by}
        for name, run in computed.items():
            for layer, kernel in kernels(state.ranges, state.runs[run].params).items():
                relative = np.ravel(kernel / ranges[layer])
                sampled[f'{name}/{layer}'] = relative[:: -(-relative.size // _SAMPLED_WEIGHTS)]
        return sampled


def run(settings: Settings, workdir: pathlib.Path, argv: list[str]) -> int:
    """Trains, or continues, the run in a workdir and writes all that the contract names.

    Returns:
      The exit code.

    Raises:
      UserError: before anything is written, where the config and the data or the workdir do not fit.
    """
    config = settings.config.to_dict()
    records.check_same_run(workdir, config)
    trainer = Trainer(settings, load(settings.config))
    state = trainer.initial_state()
    for message in settings.warnings(kernels(state.ranges, state.ranges)):
        print(f'warning: {message}', file=sys.stderr)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f'workdir {workdir}: {error.strerror}; choose another --workdir') from None
    records.write_json(workdir / 'config.json', config)
    records.write_json(workdir / 'environment.json', environment.describe(argv, trainer.devices))
    print(
        f'{len(trainer.devices)} of {jax.local_device_count()} devices, '
        f'{trainer.steps} steps of {config["batch_size"]} images'
    )
    with _termination() as stop, Checkpoints(workdir) as checkpoints:
        state = checkpoints.restore(state)
        with records.Records(workdir, int(state.step), trainer.record_every) as log:
            state, code = trainer.train(state, log, checkpoints, stop)
    if code == FINISHED:
        _finish(trainer, state, log.rows, workdir)
    return code


def _finish(trainer: Trainer, state: State, rows: list[dict], workdir: pathlib.Path) -> None:
    if trainer.timing()['steps_per_second'] is not None:
        records.write_json(workdir / 'timing.json', trainer.timing())
    np.savez(workdir / 'weights.npz', **trainer.sampled_weights(state))
    result = summary.summarize(trainer.settings, rows)
    records.write_json(workdir / 'summary.json', result)
    report.write(workdir)
    print(summary.table(result))
    print(f'\n{result["verdict"]}\n\nReport: {workdir / "report.html"}')


@contextlib.contextmanager
def _termination():
    """An event that SIGTERM sets: the loop saves and stops at the next step."""
    stop = threading.Event()
    before = signal.signal(signal.SIGTERM, lambda *_: stop.set())
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)


def _most_devices_that_divide(batch_size: int) -> list:
    devices = jax.local_devices()
    return devices[: max(n for n in range(1, len(devices) + 1) if batch_size % n == 0)]


def _progress_interval() -> float:
    """Seconds between updates of the progress bar: often for eyes, seldom for a log file."""
    return 0.1 if sys.stderr.isatty() else 10


def _postfix(row: dict) -> str:
    error = row.get('ste/weight_alignment_error')
    return f'accuracy {row["eval/accuracy"]:.3f}' + (f', ste error {error:.3f}' if error is not None else '')

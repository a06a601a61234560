"""The only training loop: feeds batches, evaluates, records, checkpoints, ends."""

import functools
import itertools
import math
import sys
import time
from collections.abc import Iterator

import jax
import numpy as np
from flax.jax_utils import prefetch_to_device

from experiments.data.batches import Batches
from experiments.errors import blame
from experiments.results import summary
from experiments.setup.settings import Settings
from experiments.terminal import progress_bar, say
from experiments.training import advice
from experiments.training.programs import AXIS, Drawn
from experiments.training.sharing import programs
from experiments.training.stopping import Stop
from experiments.workdir import initial_weights
from experiments.workdir.beginning import Beginning
from experiments.workdir.checkpoints import Checkpoints
from experiments.workdir.records import NoRecords
from qat import weights
from qat.lockstep import checks, ranged
from qat.lockstep.finiteness import complaint
from qat.lockstep.state import Moment, State
from qat.lockstep.twins import REFERENCE

FINISHED, NOT_FINITE = 0, 3  # exit codes, beside those of `stopping`
_MOST_STEPS_IN_FLIGHT = 10  # the host runs so far ahead of the devices ...
_SECONDS_IN_FLIGHT = 1  # ... but no further than this, for a signal finds it only in between
_BATCHES_AHEAD = 2
_SAMPLES = 2  # of what runs make up: the reference's, and the first twin's
_SAMPLED_WEIGHTS = 4000  # a layer, for the report's scatter


class Trainer:
    """A run on this machine's devices."""

    def __init__(self, settings: Settings, batches: Batches):
        config = settings.config
        self.settings, self.batches = settings, batches
        self.steps_per_epoch, self.steps = settings.steps(batches.steps_in_data)
        self.record_every = config.eval_every_epochs * self.steps_per_epoch
        self.programs = programs(settings, batches)
        self.task = batches.task(settings.model)  # of a model that knows of no other devices
        self.lockstep, self.devices = self.programs.lockstep, self.programs.devices
        self._learning_rates = settings.learning_rates(self.steps)
        self._train_seconds, self._steps_timed, self._compile_seconds = 0.0, 0, None

    @property
    def loss_of_guessing(self) -> float:
        """The validation loss of a model that knows nothing."""
        return self.task.loss_of_guessing

    def facts(self) -> dict[str, str]:
        """What must not differ among several processes, beside the settings."""
        return {
            'the number of steps': str(self.steps),
            'steps in the data': str(self.batches.steps_in_data),
            'devices of a process': str(len(self.devices)),
            'the loss of guessing': str(self.loss_of_guessing),
        }

    def initial_state(self) -> State:
        """The state before the first step.

        Raises:
          UserError: `init_from` names weights of another architecture, or a layer has channels without a range.
        """
        key = jax.random.key(self.settings.config.seed)
        state = self.programs.init(key, self._given(key) if self.settings.config.init_from else None)
        with blame(f'range={self.settings.config.range}'):
            checks.ranges(ranged.scales(state.runs[REFERENCE].params, state.ranges))
        return self.programs.placed(state)

    def _given(self, key: jax.Array) -> tuple:
        """The parameters and the model's state that `init_from` names, of the architecture that this run has."""
        return initial_weights.read(self.settings.config.init_from, jax.eval_shape(self.task.init, key))

    def train(
        self, state: State, begin: Beginning, log: NoRecords, checkpoints: Checkpoints, stop: Stop, label: str = ''
    ) -> tuple[State, int]:
        """Runs to the end, to a signal, or to a number that is not finite; returns the exit code too.

        `label` goes before the progress bar.
        """
        every, first, bad = self.settings.config.checkpoint_every_steps, begin.step, ''
        with progress_bar(self.steps, first, label) as bar:
            bar.set_postfix_str('compiling')
            drawn = self._compiled(state, first)
            for step in range(first, self.steps + 1):
                stop.rescue = functools.partial(checkpoints.save_now, state, log.rows)
                row, end = {}, step == self.steps
                if (step % self.record_every == 0 or end) and not (step == first and begin.recorded):
                    row = self._record(state, step, log)
                    bar.set_postfix_str(_postfix(row))
                    if step == 0 and self.settings.config.init_from:
                        with bar.external_write_mode():
                            say(f'as given by init_from: {_postfix(row)}')
                end |= stop.agreed()
                if end or row or step % every == 0:
                    bad = complaint(jax.device_get(self.programs.finite(state)), row)
                    if bad:
                        if not row:
                            self._record(state, step, log)
                        break
                if end or step % every == 0:
                    checkpoints.save(state, log.rows)
                if end:
                    break
                if step == first:
                    bar.unpause()  # what is left is told from the steps, not from the compilation
                state = self.advance(state, step, next(drawn))
                bar.update()
        if bad:  # told below the bar
            say(f'not finite at step {step}: {bad}; {self._advice(step)}, with another --workdir', sys.stderr)
            return state, NOT_FINITE
        return state, FINISHED if step == self.steps else stop.code

    def _advice(self, step: int) -> str:
        batch = next(iter(self.batches.validation()))  # at once there, other than the training batch of a step
        return advice.on_not_finite(self.settings, step, self.task.doubt(batch))

    def _compiled(self, state: State, first: int) -> Iterator[Drawn]:
        """What the steps from one on take of the data, with all programs compiled for it."""
        drawn = self.drawn_from(first)
        if first == self.steps:  # nothing is left to train
            return drawn
        one, of_validation = next(drawn), next(iter(self.batches.validation()))
        start = time.perf_counter()
        self.programs.compile(state, self._moment(first), one, self.programs.sharded(of_validation))
        self._compile_seconds = time.perf_counter() - start
        return itertools.chain([one], drawn)

    def drawn_from(self, step: int) -> Iterator[Drawn]:
        """What the steps from this one on take of the data, some of it on the devices before it is needed."""
        sharded, reshuffled = self.programs.sharded, itertools.repeat(None)
        if any(twin.reshuffled for twin in self.settings.twins.values()):
            reshuffled = map(sharded, self.batches.reshuffled().train(step, self.steps_per_epoch))
        host = map(Drawn, map(sharded, self.batches.train(step, self.steps_per_epoch)), reshuffled)
        return prefetch_to_device(host, _BATCHES_AHEAD, self.devices, AXIS)

    def _moment(self, step: int) -> Moment:
        first = np.bool_(step % self.record_every == 0)
        return Moment(self._learning_rates[step], np.float32(step / self.steps), first)

    def advance(self, state: State, step: int, drawn: Drawn) -> State:
        """One update of every run; the time it takes counts as training."""
        start = time.perf_counter()
        state = self.programs.step(state, self._moment(step), drawn)
        if self._compile_seconds is None:
            jax.block_until_ready(state)
            self._compile_seconds = time.perf_counter() - start
            return state
        if step % self._steps_in_flight() == 0:
            jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        self._steps_timed += 1
        return state

    def _steps_in_flight(self) -> int:
        a_second = _SECONDS_IN_FLIGHT * self._steps_timed // self._train_seconds if self._steps_timed else 1
        return int(min(max(1, a_second), _MOST_STEPS_IN_FLIGHT))

    def _record(self, state: State, step: int, log: NoRecords) -> dict:
        plan = self.lockstep.plan(state.runs[REFERENCE].params)
        start = time.perf_counter()
        jax.block_until_ready(state)
        self._train_seconds += time.perf_counter() - start
        since = (step - 1) % self.record_every + 1
        losses = {name: run.loss.item() / since if step else None for name, run in state.runs.items()}
        evaluated = self.evaluate(state)
        measured = jax.device_get(self.programs.measure(state))
        row = summary.row(plan.computed_by, step, losses, evaluated, measured, log.rows, self.task.derived)
        log.append(row)
        return row

    def evaluate(self, state: State) -> dict:
        """The sums of `Lockstep.evaluate` over all validation examples."""
        sums = [self.programs.evaluate(state, self.programs.sharded(batch)) for batch in self.batches.validation()]
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
        sampled, plan = {}, self.lockstep.plan(state.runs[REFERENCE].params)
        for name, run in {REFERENCE: REFERENCE, **plan.computed_by}.items():
            for layer, weight in weights.get(state.runs[run].params, plan.paths).items():
                relative = np.ravel(weight / state.ranges[layer])
                sampled[f'{name}/{layer}'] = relative[:: -(-relative.size // _SAMPLED_WEIGHTS)]
        return sampled

    def samples(self, state: State) -> dict[str, str]:
        """What the reference makes up, and the twin that an answer is on; nothing where the task has no samples."""
        if not hasattr(self.task, 'sample'):
            return {}
        names, key = [REFERENCE, *self.settings.twins], jax.random.key(self.settings.config.seed)
        computed_by = {REFERENCE: REFERENCE, **self.lockstep.plan(state.runs[REFERENCE].params).computed_by}
        batch, quantized = next(iter(self.batches.validation())), jax.jit(self.lockstep.quantized, static_argnums=0)
        made = {}
        for name in names[:_SAMPLES]:
            run = computed_by[name]
            with self.lockstep.reading(run, state):
                made[name] = self.task.sample(quantized(run, state), state.runs[run].model_state, batch, key)
        return made


def _postfix(row: dict) -> str:
    error = row.get('ste/weight_alignment_error')
    return f'accuracy {row["eval/accuracy"]:.3f}' + (f', ste error {error:.3f}' if error is not None else '')

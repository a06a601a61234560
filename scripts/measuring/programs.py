"""Programs that are timed: training steps as the trainer runs them, bare, under jit, in one dispatch, of many seeds."""

import functools
import time
from collections.abc import Callable

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.stages import Compiled

from experiments.data.batches import Batch
from experiments.training.programs import AXIS, Drawn
from qat.lockstep.state import Moment
from scripts.measuring.workloads import PAIR, Workload

_MOMENT = Moment(np.float32(1e-3), np.float32(0), np.bool_(False))  # on the host, as the trainer's
LEARNING_RATE, MOMENTUM = 1e-3, 0.9  # of a bare step; those of `_MOMENT` and `workloads.SGD`


class Training:
    """A compiled function and its state, which every call moves on; nothing is computed before the first call.

    Args:
      step: (state, *rest) -> state, under jit or pmap.
      init: key -> state, compiled too.
      rest: what the step takes besides.
      placed: puts the first state where the step leaves it.

    Attributes:
      compiled: the program, once it was compiled by `compile`; else the step is called as it is, and compiles itself.
      compile_seconds: what that took.
    """

    def __init__(self, step, init: Callable, rest: tuple, placed: Callable = lambda state: state):
        self._step, self._init, self._rest, self._placed = step, init, rest, placed
        self._state = None
        self.compiled: Compiled | None = None
        self.compile_seconds: float | None = None

    def compile(self, options: dict | None = None) -> 'Training':
        """Compiles the step ahead, with these options of the compiler; returns itself."""
        lowered = self._lowered()
        start = time.perf_counter()
        self.compiled = lowered.compile(compiler_options=options)
        self.compile_seconds = time.perf_counter() - start
        return self

    def operations(self) -> float:
        """Of a step, as XLA counts them before it optimizes."""
        return self._lowered().cost_analysis()['flops']

    def _lowered(self):
        return self._step.lower(jax.eval_shape(self._init, jax.random.key(0)), *self._rest)

    def __call__(self, times: int) -> None:
        """Calls the step so often, and waits."""
        if self._state is None:
            self._begin()
        step = self.compiled or self._step
        for _ in range(times):
            self._state = step(self._state, *self._rest)
        jax.block_until_ready(self._state)

    def _begin(self) -> None:
        self._state = self._placed(self._init(jax.random.key(0)))
        if self.compiled:
            given = jax.device_put((self._state, *self._rest), self.compiled.input_shardings[0])
            self._state, *self._rest = given

    def memory(self) -> dict[str, int]:
        """Bytes of the compiled step as XLA lays it out: what goes in (the state is overwritten in place), and so on.

        It is known before anything is run.
        """
        found = self.compiled.memory_analysis()
        beside = found.output_size_in_bytes - found.alias_size_in_bytes
        parts = {'arguments': found.argument_size_in_bytes, 'temporary': found.temp_size_in_bytes}
        return {**parts, 'outputs_beside': beside, 'total': sum(parts.values()) + beside}


def training(workload: Workload, twins=PAIR, devices: list | None = None, **options) -> Training:
    """The trainer's step on one batch of noise, a pair's with all tracking by default; see `Workload.programs`."""
    programs = workload.programs(twins, devices, **options)
    batch = jax.device_put(programs.sharded(workload.batch()), _split(_mesh(programs.devices)))
    return Training(programs.step, programs.init, (_MOMENT, Drawn(batch)), programs.placed)


alone = functools.partial(training, twins=(), tracking=False)  # one quantized run and nothing else
untracked = functools.partial(training, tracking=False)


def plain(workload: Workload) -> Training:
    """The same Flax model and the same optimizer: a bare jitted step, and nothing quantized."""
    task, optimizer = workload.task(axis_name=None), optax.sgd(LEARNING_RATE, momentum=MOMENTUM)

    def init(key):
        params, model_state = task.init(key)
        return params, model_state, optimizer.init(params)

    def step(state, batch):
        params, model_state, opt_state = state
        (_, model_state), gradients = jax.value_and_grad(task.loss, has_aux=True)(params, model_state, batch)
        updates, opt_state = optimizer.update(gradients, opt_state, params)
        return optax.apply_updates(params, updates), model_state, opt_state

    return Training(jax.jit(step, donate_argnums=0), jax.jit(init), (jax.device_put(workload.batch()),))


def under_jit(workload: Workload) -> Training:
    """A pair's step without pmap, on data with a NamedSharding; shard_map gives the step the axis that it names."""
    programs = workload.programs()
    mesh, everywhere = _mesh(programs.devices), PartitionSpec()

    def step(state, moment, batch):
        return programs.lockstep.step(state, batch, moment)[0]

    given = (everywhere, everywhere, PartitionSpec(AXIS))
    mapped = jax.shard_map(step, mesh=mesh, in_specs=given, out_specs=everywhere, check_vma=False)
    batch = jax.device_put(workload.batch(), _split(mesh))
    return Training(jax.jit(mapped, donate_argnums=0), programs.init, (_MOMENT, batch), programs.placed)


def scanned(workload: Workload, steps: int) -> Training:
    """So many steps of a pair in one dispatch, under `lax.scan`, with a batch for each."""
    init, step = _without_axis(workload)

    def steps_of(state, batches):
        return jax.lax.scan(lambda state, batch: (step(state, batch), None), state, batches)[0]

    return Training(jax.jit(steps_of, donate_argnums=0), jax.jit(init), (_stacked(workload, steps),))


def vmapped(workload: Workload, seeds: int) -> Training:
    """A step of so many pairs in one dispatch, vmapped, each on a batch of its own."""
    init, step = _without_axis(workload)

    def inits(key):
        return jax.vmap(init)(jax.random.split(key, seeds))

    return Training(jax.jit(jax.vmap(step), donate_argnums=0), jax.jit(inits), (_stacked(workload, seeds),))


def tracking(workload: Workload) -> Training:
    """The tracking of a pair's step and nothing else."""
    programs = workload.programs()
    state = programs.init(jax.random.key(0))

    def track(tracked, state):
        return programs.lockstep.track(state.replace(tracking=tracked), state.runs)

    return Training(jax.jit(track, donate_argnums=0), lambda key: programs.init(key).tracking, (state,))


def _without_axis(workload: Workload) -> tuple[Callable, Callable]:
    task, lockstep = workload.task(axis_name=None), workload.lockstep(axis_name=None)

    def init(key):
        return lockstep.init(*task.init(key))

    def step(state, batch):
        return lockstep.step(state, batch, _MOMENT)[0]

    return init, step


def _stacked(workload: Workload, batches: int) -> Batch:
    return jax.device_put({key: np.stack([part] * batches) for key, part in workload.batch().items()})


def _mesh(devices: list) -> Mesh:
    return Mesh(np.array(devices), (AXIS,))


def _split(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec(AXIS))
